// The official Node client.
import OpenAI from "openai";
import { apiKey, baseURL, check, finish, model, pixel, reportSchema, temperatures, throws, want, weatherSchema } from "./check.mjs";

const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const name = "openai-node";
const user = (content) => ({ role: "user", content });
const tools = [{ type: "function", function: { name: "get_weather", description: "Weather now", parameters: weatherSchema } }];

await check(name, "models", async () => {
  const ids = [];
  for await (const m of client.models.list()) ids.push(m.id);
  want(ids.includes(model), `the list holds ${model}`, ids);
  want((await client.models.retrieve(model)).id === model, "one model is found by its id");
});

await check(name, "a whole answer", async () => {
  const a = await client.chat.completions.create({ model, messages: [user("Say hello.")] });
  want(a.object === "chat.completion" && a.choices.length === 1, "one choice", a);
  want(a.choices[0].message.content.includes("Hello"), "a greeting", a.choices[0]);
  want(a.choices[0].finish_reason === "stop", "finish_reason stop", a.choices[0]);
  want(a.usage.total_tokens === a.usage.prompt_tokens + a.usage.completion_tokens, "usage adds up", a.usage);
});

await check(name, "a streamed answer with usage", async () => {
  const stream = await client.chat.completions.create({
    model, messages: [user("Say hello.")], stream: true, stream_options: { include_usage: true },
  });
  let text = "", finishes = 0, usage = null;
  const ids = new Set();
  for await (const c of stream) {
    ids.add(c.id);
    text += c.choices[0]?.delta?.content ?? "";
    if (c.choices[0]?.finish_reason) finishes++;
    if (c.usage) usage = c.usage;
  }
  want(text.includes("Hello"), "a greeting", text);
  want(finishes === 1 && ids.size === 1, "one finish and one id", [finishes, [...ids]]);
  want(usage?.total_tokens > 0, "usage at the end", usage);
});

await check(name, "no usage in a stream that did not ask", async () => {
  const stream = await client.chat.completions.create({ model, messages: [user("Say hello.")], stream: true });
  for await (const c of stream) want(c.choices.length === 1 && !c.usage, "a choice and no usage", c);
});

async function loop(ask) {
  const messages = [user("What is the weather in Paris and in Rome?")];
  const first = await ask({ model, messages, tools });
  const message = first.choices[0].message;
  want(first.choices[0].finish_reason === "tool_calls", "finish_reason tool_calls", first.choices[0]);
  want(message.tool_calls?.length === 2, "two calls", message);
  want(new Set(message.tool_calls.map((c) => c.id)).size === 2, "two ids", message.tool_calls);
  messages.push(message);
  for (const call of message.tool_calls) {
    want(call.function.name === "get_weather", "the tool's name", call);
    const { city } = JSON.parse(call.function.arguments);
    messages.push({ role: "tool", tool_call_id: call.id, content: JSON.stringify({ city, celsius: temperatures[city] }) });
  }
  const last = await ask({ model, messages, tools });
  const text = last.choices[0].message.content;
  want(text.includes("18") && text.includes("24"), "both results in the answer", text);
}

await check(name, "a tool loop with parallel calls, whole", () => loop((body) => client.chat.completions.create(body)));
await check(name, "a tool loop with parallel calls, streamed", () => loop((body) => client.chat.completions.stream(body).finalChatCompletion()));

await check(name, "tools by the client's own runner", async () => {
  const runner = client.chat.completions.runTools({
    model, messages: [user("What is the weather in Paris and in Rome?")], stream: true,
    tools: [{ type: "function", function: { ...tools[0].function, parse: JSON.parse, function: ({ city }) => ({ city, celsius: temperatures[city] }) } }],
  });
  const text = await runner.finalContent();
  want(text.includes("18") && text.includes("24"), "both results in the answer", text);
});

await check(name, "a streamed structured output", async () => {
  const a = await client.chat.completions.stream({
    model, messages: [user("Report on Paris.")],
    response_format: { type: "json_schema", json_schema: { name: "report", strict: true, schema: reportSchema } },
  }).finalChatCompletion();
  const report = JSON.parse(a.choices[0].message.content);
  want(report.city === "Paris" && report.celsius === 18, "the report", report);
  want(a.choices[0].finish_reason === "stop", "finish_reason stop", a.choices[0]);
});

await check(name, "an image", async () => {
  const a = await client.chat.completions.create({
    model,
    messages: [user([{ type: "text", text: "What is this?" }, { type: "image_url", image_url: { url: `data:image/png;base64,${pixel}`, detail: "low" } }])],
  });
  want(a.choices[0].message.content.includes("image/png"), "the image was seen", a.choices[0]);
});

await check(name, "reasoning there and back", async () => {
  const messages = [user("Think about 6 times 7.")];
  const first = await client.chat.completions.create({ model, messages, reasoning_effort: "low" });
  const message = first.choices[0].message;
  want(message.reasoning_content?.length > 0, "reasoning_content", message);
  want(message.content.includes("42"), "the answer", message);
  const second = await client.chat.completions.create({ model, messages: [...messages, message, user("Are you sure?")], reasoning_effort: "low" });
  want(second.choices[0].message.content.includes("remember"), "the thoughts came back", second.choices[0]);
});

await check(name, "streamed reasoning", async () => {
  const stream = await client.chat.completions.create({ model, messages: [user("Think about 6 times 7.")], reasoning_effort: "low", stream: true });
  let thoughts = "", text = "";
  for await (const c of stream) {
    thoughts += c.choices[0]?.delta?.reasoning_content ?? "";
    text += c.choices[0]?.delta?.content ?? "";
  }
  want(thoughts.length > 0 && text.includes("42"), "thoughts and an answer", [thoughts, text]);
});

await check(name, "a mistake of the client's", async () => {
  const error = await throws(() => client.chat.completions.create({ model, messages: [] }));
  want(error instanceof OpenAI.BadRequestError && error.type === "invalid_request_error", "a BadRequestError", error);
  want(error.requestID, "a request id", error);
});

await check(name, "an upstream's refusal", async () => {
  const error = await throws(() => client.chat.completions.create({ model, messages: [user("Refuse this.")] }));
  want(error instanceof OpenAI.BadRequestError && error.type === "invalid_request_error", "a BadRequestError", error);
});

await check(name, "a stream that breaks", async () => {
  let text = "";
  const error = await throws(async () => {
    const stream = await client.chat.completions.create({ model, messages: [user("Break off.")], stream: true });
    for await (const c of stream) text += c.choices[0]?.delta?.content ?? "";
  });
  want(text === "This is ", "what came before", text);
  want(error instanceof OpenAI.APIError, "an APIError", String(error));
});

finish();
