// LangChain's client for this API.
import { HumanMessage, ToolMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";
import { apiKey, baseURL, check, finish, model, pixel, reportSchema, temperatures, throws, want, weatherSchema } from "./check.mjs";

const name = "langchain-node";
const chat = new ChatOpenAI({ model, apiKey, maxRetries: 0, useResponsesApi: false, configuration: { baseURL } });
const weather = tool(async ({ city }) => JSON.stringify({ city, celsius: temperatures[city] }), {
  name: "get_weather", description: "Weather now", schema: weatherSchema,
});

await check(name, "a whole answer", async () => {
  const a = await chat.invoke("Say hello.");
  want(a.text.includes("Hello"), "a greeting", a.text);
  want(a.usage_metadata?.total_tokens > 0, "usage", a.usage_metadata);
});

async function collect(stream) {
  let all;
  for await (const piece of stream) all = all ? all.concat(piece) : piece;
  return all;
}

await check(name, "a streamed answer", async () => {
  const a = await collect(await chat.stream("Say hello."));
  want(a.text.includes("Hello"), "a greeting", a.text);
});

async function loop(ask) {
  const messages = [new HumanMessage("What is the weather in Paris and in Rome?")];
  const first = await ask(messages);
  want(first.tool_calls?.length === 2, "two calls", first.tool_calls);
  messages.push(first);
  for (const call of first.tool_calls) {
    messages.push(new ToolMessage({ content: await weather.invoke(call.args), tool_call_id: call.id }));
  }
  const last = await ask(messages);
  want(last.text.includes("18") && last.text.includes("24"), "both results in the answer", last.text);
}

const bound = chat.bindTools([weather]);
await check(name, "a tool loop with parallel calls, whole", () => loop((m) => bound.invoke(m)));
await check(name, "a tool loop with parallel calls, streamed", () => loop(async (m) => collect(await bound.stream(m))));

await check(name, "a structured output", async () => {
  for (const method of ["jsonSchema", "functionCalling"]) {
    const report = await chat.withStructuredOutput(reportSchema, { name: "report", method, strict: true }).invoke("Report on Paris.");
    want(report.city === "Paris" && report.celsius === 18, `the report by ${method}`, report);
  }
});

await check(name, "an image", async () => {
  const a = await chat.invoke([new HumanMessage({
    content: [{ type: "text", text: "What is this?" }, { type: "image_url", image_url: { url: `data:image/png;base64,${pixel}` } }],
  })]);
  want(a.text.includes("image/png"), "the image was seen", a.text);
});

await check(name, "a refusal", async () => {
  const error = await throws(() => chat.invoke("Refuse this."));
  want(error.status === 400, "status 400", String(error));
});

await check(name, "a stream that breaks", async () => {
  let text = "";
  await throws(async () => {
    for await (const piece of await chat.stream("Break off.")) text += piece.text;
  });
  want(text === "This is ", "what came before", text);
});

finish();
