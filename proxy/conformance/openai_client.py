"""The official Python client."""

import json
import sys

import openai

from check import (API_KEY, BASE_URL, EMBEDDING_MODEL, MODEL, PIXEL, REPORT_SCHEMA, TEMPERATURES, WEATHER_SCHEMA, check, finish, want)

NAME = "openai-python"
client = openai.OpenAI(base_url=BASE_URL, api_key=API_KEY, max_retries=0)
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Weather now", "parameters": WEATHER_SCHEMA}}]


def user(content):
    return {"role": "user", "content": content}


def ask(**body):
    return client.chat.completions.create(model=MODEL, **body)


def fails(run):
    try:
        run()
    except openai.OpenAIError as error:
        return error
    raise AssertionError("it did not fail")


@check(NAME, "models")
def _():
    ids = [m.id for m in client.models.list()]
    want(MODEL in ids, f"the list holds {MODEL}", ids)
    want(client.models.retrieve(MODEL).id == MODEL, "one model is found by its id", ids)


@check(NAME, "a whole answer")
def _():
    a = ask(messages=[user("Say hello.")])
    want("Hello" in a.choices[0].message.content, "a greeting", a)
    want(a.choices[0].finish_reason == "stop", "finish_reason stop", a)
    want(a.usage.total_tokens == a.usage.prompt_tokens + a.usage.completion_tokens, "usage adds up", a.usage)


@check(NAME, "a streamed answer with usage")
def _():
    text, finishes, usage, ids = "", 0, None, set()
    for c in ask(messages=[user("Say hello.")], stream=True, stream_options={"include_usage": True}):
        ids.add(c.id)
        if c.choices:
            text += c.choices[0].delta.content or ""
            finishes += c.choices[0].finish_reason is not None
        usage = c.usage or usage
    want("Hello" in text, "a greeting", text)
    want(finishes == 1 and len(ids) == 1, "one finish and one id", [finishes, list(ids)])
    want(usage and usage.total_tokens > 0, "usage at the end", usage)


def loop(run):
    messages = [user("What is the weather in Paris and in Rome?")]
    first = run(messages)
    message = first.choices[0].message
    want(first.choices[0].finish_reason == "tool_calls", "finish_reason tool_calls", first)
    want(len(message.tool_calls or []) == 2, "two calls", message)
    messages.append(message.model_dump(exclude_none=True, exclude={"parsed"}))
    for call in message.tool_calls:
        city = json.loads(call.function.arguments)["city"]
        messages.append({"role": "tool", "tool_call_id": call.id, "content": json.dumps({"city": city, "celsius": TEMPERATURES[city]})})
    text = run(messages).choices[0].message.content
    want("18" in text and "24" in text, "both results in the answer", text)


@check(NAME, "a tool loop with parallel calls, whole")
def _():
    loop(lambda messages: ask(messages=messages, tools=TOOLS))


@check(NAME, "a tool loop with parallel calls, streamed")
def _():
    def run(messages):
        with client.chat.completions.stream(model=MODEL, messages=messages, tools=TOOLS) as stream:
            for _ in stream:
                pass
            return stream.get_final_completion()

    loop(run)


@check(NAME, "a streamed structured output")
def _():
    schema = {"type": "json_schema", "json_schema": {"name": "report", "strict": True, "schema": REPORT_SCHEMA}}
    text = ""
    for c in ask(messages=[user("Report on Paris.")], response_format=schema, stream=True):
        text += c.choices[0].delta.content or ""
    want(json.loads(text) == {"city": "Paris", "celsius": 18}, "the report", text)


@check(NAME, "an image")
def _():
    a = ask(messages=[user([{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64," + PIXEL}}])])
    want("image/png" in a.choices[0].message.content, "the image was seen", a)


@check(NAME, "reasoning there and back")
def _():
    messages = [user("Think about 6 times 7.")]
    first = ask(messages=messages, reasoning_effort="low").choices[0].message
    want(getattr(first, "reasoning_content", ""), "reasoning_content", first)
    want("42" in first.content, "the answer", first)
    messages += [first.model_dump(exclude_none=True), user("Are you sure?")]
    second = ask(messages=messages, reasoning_effort="low").choices[0].message
    want("remember" in second.content, "the thoughts came back", second)


@check(NAME, "embeddings")
def _():
    if not EMBEDDING_MODEL:
        return
    a = client.embeddings.create(model=EMBEDDING_MODEL, input=["one", "two"])
    want([e.index for e in a.data] == [0, 1] and all(isinstance(x, float) for x in a.data[0].embedding), "two vectors", a)


@check(NAME, "a mistake of the client's")
def _():
    error = fails(lambda: ask(messages=[]))
    want(isinstance(error, openai.BadRequestError) and error.type == "invalid_request_error", "a BadRequestError", repr(error))
    want(error.request_id, "a request id", repr(error))


@check(NAME, "an upstream's refusal")
def _():
    error = fails(lambda: ask(messages=[user("Refuse this.")]))
    want(isinstance(error, openai.BadRequestError), "a BadRequestError", repr(error))


@check(NAME, "a stream that breaks")
def _():
    pieces = []

    def run():
        for c in ask(messages=[user("Break off.")], stream=True):
            pieces.append(c.choices[0].delta.content or "")

    error = fails(run)
    want("".join(pieces) == "This is ", "what came before", pieces)
    want(isinstance(error, openai.APIError), "an APIError", repr(error))


sys.exit(finish())
