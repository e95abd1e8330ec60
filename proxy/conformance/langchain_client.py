"""LangChain's client for this API."""

import json
import sys

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from check import API_KEY, BASE_URL, MODEL, PIXEL, REPORT_SCHEMA, TEMPERATURES, check, finish, want

NAME = "langchain-python"
chat = ChatOpenAI(model=MODEL, base_url=BASE_URL, api_key=API_KEY, max_retries=0, use_responses_api=False, stream_usage=True)


@tool
def get_weather(city: str) -> str:
    """Weather now"""
    return json.dumps({"city": city, "celsius": TEMPERATURES[city]})


def fails(run):
    try:
        run()
    except Exception as error:
        return error
    raise AssertionError("it did not fail")


def collect(stream):
    whole = None
    for piece in stream:
        whole = piece if whole is None else whole + piece
    return whole


def said(message):
    return message.content if isinstance(message.content, str) else json.dumps(message.content)


@check(NAME, "a whole answer")
def _():
    a = chat.invoke("Say hello.")
    want("Hello" in said(a), "a greeting", a)
    want(a.usage_metadata["total_tokens"] > 0, "usage", a.usage_metadata)


@check(NAME, "a streamed answer with usage")
def _():
    a = collect(chat.stream("Say hello."))
    want("Hello" in said(a), "a greeting", a)
    want(a.usage_metadata and a.usage_metadata["total_tokens"] > 0, "usage", a)


def loop(ask):
    messages = [HumanMessage("What is the weather in Paris and in Rome?")]
    first = ask(messages)
    want(len(first.tool_calls) == 2, "two calls", first.tool_calls)
    messages.append(first)
    for call in first.tool_calls:
        messages.append(ToolMessage(content=get_weather.invoke(call["args"]), tool_call_id=call["id"]))
    last = ask(messages)
    want("18" in said(last) and "24" in said(last), "both results in the answer", last)


bound = chat.bind_tools([get_weather])


@check(NAME, "a tool loop with parallel calls, whole")
def _():
    loop(bound.invoke)


@check(NAME, "a tool loop with parallel calls, streamed")
def _():
    loop(lambda messages: collect(bound.stream(messages)))


@check(NAME, "a structured output")
def _():
    for method in ("json_schema", "function_calling"):
        report = chat.with_structured_output(REPORT_SCHEMA, method=method, strict=True).invoke("Report on Paris.")
        want(report == {"city": "Paris", "celsius": 18}, f"the report by {method}", report)


@check(NAME, "an image")
def _():
    a = chat.invoke([HumanMessage([{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64," + PIXEL}}])])
    want("image/png" in said(a), "the image was seen", a)


@check(NAME, "a refusal")
def _():
    error = fails(lambda: chat.invoke("Refuse this."))
    want(getattr(error, "status_code", 0) == 400, "status 400", repr(error))


@check(NAME, "a stream that breaks")
def _():
    pieces = []

    def run():
        for piece in chat.stream("Break off."):
            pieces.append(said(piece))

    fails(run)
    want("".join(pieces) == "This is ", "what came before", pieces)


sys.exit(finish())
