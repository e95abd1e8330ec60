"""What the scripts share: where the server is, the scenes, and how a check is reported.

Each scene is played by a model that follows the script in README.md.
"""

import os
import traceback

BASE_URL = os.environ.get("BASE_URL", "http://127.0.0.1:8080/v1")
API_KEY = os.environ.get("API_KEY", "none")
MODEL = os.environ.get("MODEL", "auto")
EMBEDDING_MODEL = os.environ.get("EMBEDDING_MODEL", "")

TEMPERATURES = {"Paris": 18, "Rome": 24}

WEATHER_SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}

REPORT_SCHEMA = {
    "title": "report",
    "description": "A report on the weather",
    "type": "object",
    "properties": {"city": {"type": "string"}, "celsius": {"type": "integer"}},
    "required": ["city", "celsius"],
    "additionalProperties": False,
}

# One red pixel.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4z8DwHwAFAAH/iZk9HQAAAABJRU5ErkJggg=="

_failed = 0


def want(condition, message, got):
    if not condition:
        raise AssertionError(f"{message}; got {got}")


def check(client, name):
    """Runs the function it decorates, at once, and reports on it."""

    def run(scene):
        global _failed
        try:
            scene()
            print(f"ok {client}: {name}", flush=True)
        except Exception as error:
            _failed += 1
            where = traceback.extract_tb(error.__traceback__)[-1]
            print(f"FAIL {client}: {name}: {error!r} at {where.name}:{where.lineno}"[:2000].replace("\n", " | "), flush=True)
        return scene

    return run


def finish():
    return 1 if _failed else 0
