"""Google's Gemini API, as a judge of requests."""

import re
from typing import Any

from tests.strict.refused import Json, is_of_other, refuse
from tests.strict.schemas import problem_of_gemini

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}")
_TYPES = {
    *(f"image/{each}" for each in ("png", "jpeg", "webp", "heic", "heif")),
    *(f"text/{each}" for each in ("plain", "html", "css", "markdown", "csv", "xml", "rtf")),
    "application/pdf",
}


def judge(body: Json, model: str) -> None:
    """Raise `Refused` for what the API answers 400."""
    for part in body.get("systemInstruction", {}).get("parts", ()):
        refuse(not part["text"].strip(), "GenerateContentRequest.system_instruction: empty text")
    _judge_tools(body)
    contents = body["contents"]
    refuse(not contents, "* GenerateContentRequest.contents: contents is not specified")
    first = contents[0]["role"]
    refuse(first != "user", "Please ensure that multiturn requests begin with a user turn.")
    last = "Please ensure that multiturn requests end with a user role or a function response."
    refuse(contents[-1]["role"] != "user", last)
    waiting: list[str] = []
    for index, content in enumerate(contents):
        where = f"GenerateContentRequest.contents[{index}]"
        refuse(not content["parts"], f"* {where}.parts: contents.parts must not be empty.")
        given = [p["functionResponse"]["name"] for p in content["parts"] if "functionResponse" in p]
        _judge_responses(given, waiting)
        called = [p for p in content["parts"] if "functionCall" in p]
        waiting = [each["functionCall"]["name"] for each in called]
        for part in content["parts"]:
            _judge_part(part, where, model)
        is_signed = not called or "thoughtSignature" in called[0]
        asks = bool(model) and not re.match(r"gemini-[12]\b", model)
        refuse(
            asks and not is_signed,
            "Function call is missing a thought_signature in functionCall parts. This is required "
            "for tools to work correctly",
        )
    _judge_responses([], waiting)
    pictures = [
        part["inlineData"]["mimeType"]
        for content in contents
        for part in content["parts"]
        if "inlineData" in part
    ]
    count = sum(each.startswith("image/") for each in pictures)
    refuse(count > 3600, f"Too many images in the request: {count} > 3600")


def _judge_responses(given: list[str], waiting: list[str]) -> None:
    turn = "Please ensure that function response turn comes immediately after a function call turn."
    refuse(given and not waiting, turn)
    refuse(
        len(given) != len(waiting),
        "Please ensure that the number of function response parts is equal to the number of "
        "function call parts of the function call turn.",
    )
    refuse(given != waiting, "The names of function responses do not match those of the calls.")


def _judge_tools(body: Json) -> None:
    declared: list[Any] = []
    for tool in body.get("tools") or ():
        declared += tool.get("functionDeclarations", ())
    for index, each in enumerate(declared):
        where = f"GenerateContentRequest.tools[0].function_declarations[{index}]"
        refuse(
            not _NAME.fullmatch(each["name"]),
            f"* {where}.name: [FIELD_INVALID] Invalid function name. Must start with a letter or "
            "an underscore. Must be a-z, A-Z, 0-9, or contain underscores (_), dots (.), colons "
            "(:), or dashes (-), with a maximum length of 64.",
        )
        problem = problem_of_gemini(each["parametersJsonSchema"])
        refuse(problem, f"* {where}.parameters_json_schema: {problem}")
    refuse(
        len(declared) > 512,
        "* tools[0].function_declarations: [FIELD_INVALID] At most 512 function declarations can "
        "be specified.",
    )
    names = [each["name"] for each in declared]
    twice = next((each for each in names if names.count(each) > 1), None)
    refuse(twice is not None, f"Duplicate function declaration found: {twice}")


def _judge_part(part: Json, where: str, model: str) -> None:
    kinds = {"text", "inlineData", "functionCall", "functionResponse", "executableCode"}
    kinds |= {"codeExecutionResult"}
    known = part.keys() <= kinds | {"thought", "thoughtSignature", "toolCall", "toolResponse"}
    unknown = min(part.keys() - kinds - {"thought", "thoughtSignature"}, default="")
    refuse(
        not known, f'Invalid JSON payload received. Unknown name "{unknown}": Cannot find field.'
    )
    if "text" in part and "thoughtSignature" not in part:
        refuse(not part["text"].strip(), f"* {where}.parts: must have a text parameter")
    refuse(is_of_other(part.get("thoughtSignature"), model), "Thought signature is not valid.")
    if "functionCall" in part:
        refuse(not _NAME.fullmatch(part["functionCall"]["name"]), "Invalid function name.")
        refuse(
            not isinstance(part["functionCall"]["args"], dict), "args: Proto field is not a Struct"
        )
    if "inlineData" in part:
        kind = part["inlineData"]["mimeType"]
        refuse(kind not in _TYPES, f"Unsupported MIME type: {kind}")
        refuse(not part["inlineData"]["data"], f"* {where}.parts: inline_data.data is empty")
