"""The table of all that is mended before a request is sent.

Each rule has a row: what is wrong, what is done about it, which providers refuse it as it is, and
in which words, or by which page of theirs, that is known. A rule is applied for those that refuse;
one that is for all is applied for each provider alike, so that a fallback reads the same transcript
as the model before it. `openai-chat` is many servers: what one of them refuses is mended for all.

Invariant: a row and its test are one to one (`tests/test_mending_rules.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

VERSION = 2
"""Which mending a request was sent with. It changes when what is sent for a transcript does."""


class Rule(StrEnum):
    """What can be wrong with a request, in the words in which `show` says it."""

    HALF = "half a character"
    NUL = "a NUL"
    NO_NUMBER = "a number that JSON does not have"
    BLANK = "words that are only white space"
    BLANK_SYSTEM = "a system prompt that is only white space"
    NOTHING = "a message of nothing"

    NO_MESSAGE = "a transcript without a message"
    BEGINS = "a reply at the beginning"
    ENDS = "a reply at the end"
    TWO_REPLIES = "a reply right after a reply"
    TWO_USERS = "user messages in a row"
    NO_REPLY = "a user message right after results"

    UNANSWERED = "a call without a result"
    UNASKED = "a result without a call"
    DISPLACED = "results in another order or place"
    MISNAMED = "a result under another name"
    SAME_ID = "calls with one id"
    BAD_ID = "an id that is not taken"
    NO_OBJECT = "arguments that are no object"

    FOREIGN = "thoughts or marks of another model"
    CUT = "thoughts that were cut off"
    LAST = "thoughts that nothing follows"
    SEARCH = "a search without what it found"
    UNSIGNED = "a call without a signature"
    UNTHOUGHT = "a turn that began without thinking"

    NAME = "a tool's name that is not taken"
    SAME_NAME = "tools with one name"
    MANY_TOOLS = "too many tools"
    NO_TOOLS = "calls, and no tool"
    LONG = "a description that is too long"
    KEY = "an argument's name that is not taken"

    DIALECT = "a schema of another draft"
    ROOT = "a schema that is no plain object"
    UNSAID = "a schema that leaves out what is in it"
    REFERENCE = "references in a schema"
    KEYWORD = "keywords of a schema that are not taken"
    DEEP = "a schema that is too deep"

    EMPTY = "an empty picture or document"
    MISTYPED = "a picture of another type than it says"
    UNSEEN = "a picture that is not taken"
    UNREAD = "a document that is not taken"
    IN_WORDS = "a document of text"
    MANY_PICTURES = "too many pictures"


@dataclass(frozen=True, slots=True)
class Row:
    """One rule: what is done, who refuses it as it is, and how that is known."""

    #: How the request is sent.
    done: str
    #: The providers.
    refused_by: frozenset[str]
    #: A provider's own words, its documentation, or a report of either.
    why: str
    #: Whether it is mended for every provider.
    is_for_all: bool = True

    def is_for(self, provider: str) -> bool:
        """Whether a request to this provider is mended so."""
        return self.is_for_all or provider in self.refused_by


PROVIDERS = ("anthropic", "google", "groq", "openai", "openai-chat")

_LETTERS = dict(zip("AGQOC", PROVIDERS, strict=True))


def _row(done: str, refused_by: str, why: str, *, is_for_all: bool = True) -> Row:
    return Row(done, frozenset(_LETTERS[each] for each in refused_by), why, is_for_all)


def _only(done: str, refused_by: str, why: str) -> Row:
    return _row(done, refused_by, why, is_for_all=False)


# A anthropic, G google, Q groq, O openai, C openai-chat
TABLE: Mapping[Rule, Row] = {
    Rule.HALF: _row(
        "joined with its other half, or U+FFFD", "AGQOC", "RFC 8259 §8.1: JSON is UTF-8"
    ),
    Rule.NUL: _row(
        "U+FFFD", "C", "Moonshot: 'must be a valid UTF-8 string: string contains \\x00'"
    ),
    Rule.NO_NUMBER: _row("its name as text", "AGQOC", "RFC 8259 §6: no NaN, no Infinity"),
    Rule.BLANK: _row(
        "left out", "AGC", "Anthropic: 'text content blocks must contain non-whitespace text'"
    ),
    Rule.BLANK_SYSTEM: _row(
        "left out", "AG", "Anthropic: 'system: text content blocks must be non-empty'"
    ),
    Rule.NOTHING: _row(
        "left out",
        "AGQOC",
        "Anthropic: 'all messages must have non-empty content except for the optional final "
        "assistant message'",
    ),
    Rule.NO_MESSAGE: _row(
        "a word of the user's", "AGQOC", "Anthropic: 'messages: at least one message is required'"
    ),
    Rule.BEGINS: _row(
        "a word of the user's before it",
        "AGC",
        "Anthropic: 'first message must use the \"user\" role'",
    ),
    Rule.ENDS: _row(
        "a word of the user's after it",
        "AGC",
        "Anthropic: 'The conversation must end with a user message'; Mistral: 'Expected last role "
        "User or Tool'",
    ),
    Rule.TWO_REPLIES: _row(
        "a word of the user's between them",
        "C",
        "chat templates: 'conversation roles must alternate user and assistant'",
    ),
    Rule.TWO_USERS: _row(
        "one message", "C", "chat templates: 'conversation roles must alternate user and assistant'"
    ),
    Rule.NO_REPLY: _only(
        "a reply of one word between them, for Mistral's models",
        "C",
        "Mistral: \"Unexpected role 'user' after role 'tool'\"",
    ),
    Rule.UNANSWERED: _row(
        "a result that says so, as an error",
        "AGQOC",
        "Anthropic: '`tool_use` ids were found without `tool_result` blocks immediately after'",
    ),
    Rule.UNASKED: _row(
        "words of the user's",
        "AGQOC",
        "Anthropic: 'unexpected `tool_use_id` found in `tool_result` blocks'",
    ),
    Rule.DISPLACED: _row(
        "one for each call, right after them, in their order",
        "AGQC",
        "OpenAI: \"an assistant message with 'tool_calls' must be followed by tool messages\"",
    ),
    Rule.MISNAMED: _row(
        "the name of its call", "G", "Gemini: responses are matched with calls by their names"
    ),
    Rule.SAME_ID: _row("an id each", "AQOC", "Anthropic: '`tool_use` ids must be unique'"),
    Rule.BAD_ID: _row(
        "one that is taken; for openai-chat, of another server, nine letters and digits",
        "AQOC",
        "Anthropic: ^[a-zA-Z0-9_-]+$; OpenAI: at most 64, in chat 40; Mistral: 'must be a-z, A-Z, "
        "0-9, with a length of 9'",
    ),
    Rule.NO_OBJECT: _row(
        "an empty object; what was wrong stands in the call's result",
        "",
        "Anthropic: 'tool_use.input: Input should be a valid dictionary'; no adapter could send it",
    ),
    Rule.FOREIGN: _row(
        "left out",
        "AGQOC",
        "Anthropic: 'Invalid `signature` in `thinking` block'; Groq: \"property "
        "'reasoning_content' is unsupported\"",
    ),
    Rule.CUT: _only(
        "left out; a reply with such thoughts goes to openai as anybody's",
        "AO",
        "Anthropic: 'thinking.signature: Field required'; OpenAI: 'Items are not persisted when "
        "`store` is set to false'",
    ),
    Rule.LAST: _only(
        "left out",
        "AOC",
        "Anthropic: 'The final block in an assistant message cannot be `thinking`'; OpenAI: "
        "'without its required following item'",
    ),
    Rule.SEARCH: _only(
        "left out",
        "A",
        "Anthropic: '`web_search` tool use was found without a corresponding "
        "`web_search_tool_result` block'",
    ),
    Rule.UNSIGNED: _only(
        "Google's mark for a call that is not checked",
        "G",
        "Gemini 3: 'Function call is missing a thought_signature in functionCall parts'",
    ),
    Rule.UNTHOUGHT: _only(
        "thinking is off until the turn has ended",
        "A",
        "Anthropic: 'Expected `thinking` or `redacted_thinking`, but found `tool_use`'",
    ),
    Rule.NAME: _row(
        "letters, digits, _ and -, at most 64, and back in what the model calls",
        "AGQOC",
        "OpenAI: ^[a-zA-Z0-9_-]+$; Gemini: 'Must start with a letter or an underscore'",
    ),
    Rule.SAME_NAME: _row("the first", "AG", "Anthropic: 'tools: Tool names must be unique'"),
    Rule.MANY_TOOLS: _only(
        "the first 128, or 512 for google",
        "GQOC",
        "OpenAI: \"Invalid 'tools': array too long\"; Gemini: 'At most 512 function declarations'",
    ),
    Rule.NO_TOOLS: _only(
        "tools of these names, which may not be called",
        "A",
        "Anthropic: 'Requests which have `tool_use` or `tool_result` blocks in messages must "
        "define tools'",
    ),
    Rule.LONG: _only(
        "its beginning; the whole stands in the system prompt",
        "OC",
        "OpenAI: \"Invalid 'tools[0].function.description': string too long\", above 1,024",
    ),
    Rule.KEY: _only(
        "letters, digits, _, . and -, and back in what the model gives",
        "A",
        "Anthropic: \"Property keys should match pattern '^[a-zA-Z0-9_.-]{1,64}$'\"",
    ),
    Rule.DIALECT: _row(
        "as in draft 2020-12; what means nothing there is left out",
        "AGQOC",
        "Anthropic: 'It must match JSON Schema draft 2020-12'",
    ),
    Rule.ROOT: _row(
        "one object of all properties; what it asked for beside that is said in words",
        "AGQOC",
        "Anthropic: 'input_schema does not support oneOf, allOf, or anyOf at the top level'",
    ),
    Rule.UNSAID: _only(
        "arrays have items, and the object its properties",
        "QOC",
        "OpenAI: 'array schema missing items', 'object schema missing properties'",
    ),
    Rule.REFERENCE: _only(
        "what they refer to; what contains itself ends at the second time",
        "G",
        "Gemini: nothing may stand beside a $ref, and cycles only where nothing is required",
    ),
    Rule.KEYWORD: _only(
        "said in words", "G", "Gemini documents the keywords of parametersJsonSchema that it takes"
    ),
    Rule.DEEP: _only(
        "anything, below the tenth level",
        "G",
        "Gemini: 'A FunctionDeclaration in the request exceeds the maximum allowed nesting depth'",
    ),
    Rule.EMPTY: _row("words that say so", "AGQOC", "Anthropic: 'image cannot be empty'"),
    Rule.MISTYPED: _row(
        "the type that its bytes say",
        "A",
        "Anthropic: 'the image appears to be a image/jpeg image'",
    ),
    Rule.UNSEEN: _row(
        "words that say so: its type, its size, or a model that sees nothing",
        "AGQOC",
        "Gemini: 'Unsupported MIME type: image/gif'; Groq: 'content must be a string'; Anthropic: "
        "'image exceeds 5 MB maximum'",
    ),
    Rule.UNREAD: _row(
        "words that say so",
        "AGQOC",
        "OpenAI: 'Expected a file with an application/pdf MIME type'; Groq documents none",
    ),
    Rule.IN_WORDS: _row(
        "its text: as text/plain where that is taken, else as words",
        "AGQOC",
        "Anthropic takes application/pdf and text/plain, Gemini its list of text types",
    ),
    Rule.MANY_PICTURES: _only(
        "the oldest in words, half as many as are taken at a time",
        "AGQO",
        "documented: 100 in a request to Anthropic, 3,600 to Gemini, 5 to Groq, 500 to OpenAI",
    ),
}
"""All rules, in the order of what they are about: texts, turns, calls, thoughts, tools, media."""
