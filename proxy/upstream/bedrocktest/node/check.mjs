// Asks the fake Bedrock as users of the AWS SDK for JavaScript do.
// Usage: node check.mjs URL ACCESS_KEY SECRET_KEY
import assert from "node:assert/strict";
import {
  BedrockRuntimeClient, ConverseCommand, ConverseStreamCommand, InvokeModelCommand,
} from "@aws-sdk/client-bedrock-runtime";

const [endpoint, accessKeyId, secretAccessKey] = process.argv.slice(2);
const client = (secret) => new BedrockRuntimeClient({
  region: "us-east-1", endpoint, maxAttempts: 1,
  credentials: { accessKeyId, secretAccessKey: secret },
});
const good = client(secretAccessKey);
const request = {
  modelId: "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-sonnet-4-6",
  messages: [{ role: "user", content: [{ text: "hi" }] }],
};

const whole = await good.send(new ConverseCommand(request));
assert.equal(whole.output.message.content[0].text, "Hello.");
assert.equal(whole.usage.inputTokens, 10);

const streamed = await good.send(new ConverseStreamCommand(request));
let text = "", stop, usage;
for await (const event of streamed.stream) {
  text += event.contentBlockDelta?.delta?.text ?? "";
  stop ??= event.messageStop?.stopReason;
  usage ??= event.metadata?.usage;
}
assert.deepEqual([text, stop, usage.outputTokens], ["Hello.", "end_turn", 5]);

const invoked = await good.send(new InvokeModelCommand({ modelId: "amazon.titan-embed-text-v2:0", body: '{"inputText":"hi"}' }));
assert.ok(JSON.parse(new TextDecoder().decode(invoked.body)).output);

await assert.rejects(client("another secret").send(new ConverseCommand(request)), { name: "InvalidSignatureException" });
console.log("ok");
