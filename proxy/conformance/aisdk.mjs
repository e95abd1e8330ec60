// Vercel's AI SDK with its two providers for this API.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateText, jsonSchema, Output, stepCountIs, streamText, tool } from "ai";
import { apiKey, baseURL, check, finish, model, pixel, reportSchema, temperatures, throws, want, weatherSchema } from "./check.mjs";

const providers = {
  "@ai-sdk/openai": createOpenAI({ baseURL, apiKey }).chat(model),
  "@ai-sdk/openai-compatible": createOpenAICompatible({
    name: "router", baseURL, apiKey, includeUsage: true, supportsStructuredOutputs: true,
  }).chatModel(model),
};

const tools = {
  get_weather: tool({
    description: "Weather now",
    inputSchema: jsonSchema(weatherSchema),
    execute: async ({ city }) => ({ city, celsius: temperatures[city] }),
  }),
};

const common = { maxRetries: 0, onError: () => {} };

for (const [name, m] of Object.entries(providers)) {
  await check(name, "a whole answer", async () => {
    const a = await generateText({ ...common, model: m, prompt: "Say hello." });
    want(a.text.includes("Hello") && a.finishReason === "stop", "a greeting", [a.text, a.finishReason]);
    want(a.usage.totalTokens > 0, "usage", a.usage);
  });

  await check(name, "a streamed answer", async () => {
    const a = streamText({ ...common, model: m, prompt: "Say hello." });
    let text = "";
    for await (const piece of a.textStream) text += piece;
    want(text.includes("Hello") && (await a.finishReason) === "stop", "a greeting", text);
    want((await a.usage).totalTokens > 0, "usage", await a.usage);
  });

  const question = "What is the weather in Paris and in Rome?";

  await check(name, "a tool loop with parallel calls, whole", async () => {
    const a = await generateText({ ...common, model: m, tools, prompt: question, stopWhen: stepCountIs(3) });
    want(a.steps[0].toolCalls.length === 2, "two calls in the first step", a.steps[0].toolCalls);
    want(a.text.includes("18") && a.text.includes("24"), "both results in the answer", a.text);
  });

  await check(name, "a tool loop with parallel calls, streamed", async () => {
    const a = streamText({ ...common, model: m, tools, prompt: question, stopWhen: stepCountIs(3) });
    await a.consumeStream();
    want((await a.steps)[0].toolCalls.length === 2, "two calls in the first step", (await a.steps)[0].toolCalls);
    const text = await a.text;
    want(text.includes("18") && text.includes("24"), "both results in the answer", text);
  });

  await check(name, "a streamed structured output", async () => {
    const a = streamText({ ...common, model: m, prompt: "Report on Paris.", output: Output.object({ schema: jsonSchema(reportSchema) }) });
    let partial = 0;
    for await (const _ of a.partialOutputStream) partial++;
    const report = await a.output;
    want(partial > 0 && report.city === "Paris" && report.celsius === 18, "the report", report);
  });

  await check(name, "an image", async () => {
    const a = await generateText({
      ...common, model: m,
      messages: [{ role: "user", content: [{ type: "text", text: "What is this?" }, { type: "image", image: pixel, mediaType: "image/png" }] }],
    });
    want(a.text.includes("image/png"), "the image was seen", a.text);
  });

  await check(name, "a refusal", async () => {
    const error = await throws(() => generateText({ ...common, model: m, prompt: "Refuse this." }));
    want(APICallError.isInstance(error) && error.statusCode === 400 && !error.isRetryable, "an APICallError with 400", String(error));
  });

  await check(name, "a stream that breaks", async () => {
    const errors = [];
    let text = "";
    const a = streamText({ ...common, model: m, prompt: "Break off." });
    for await (const part of a.fullStream) {
      if (part.type === "error") errors.push(part.error);
      if (part.type === "text-delta") text += part.text;
    }
    want(text === "This is ", "what came before", text);
    want(errors.length > 0, "an error", errors);
  });
}

await check("@ai-sdk/openai-compatible", "reasoning there and back", async () => {
  const m = providers["@ai-sdk/openai-compatible"];
  const messages = [{ role: "user", content: "Think about 6 times 7." }];
  const options = { ...common, model: m, providerOptions: { router: { reasoningEffort: "low" } } };
  const a = streamText({ ...options, messages });
  await a.consumeStream();
  want((await a.reasoningText)?.length > 0 && (await a.text).includes("42"), "thoughts and an answer", await a.text);
  const b = await generateText({ ...options, messages: [...messages, ...(await a.response).messages, { role: "user", content: "Are you sure?" }] });
  want(b.text.length > 0, "an answer to the second turn", b.text);
});

finish();
