"""A key that a server repeats, in whatever spelling and place, is in no error and in no answer."""

import html
import json
import logging
import re
import traceback
from base64 import b64decode, b64encode, encodebytes, urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from time import process_time
from urllib.parse import quote, quote_plus, unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from substrate.engine.failure import encode_failure, failure_of
from substrate.models.model import Model
from substrate.models.providers.keys import Words
from substrate.values.errors import Misuse
from substrate.values.mask import MASK, PIECE, Mask
from tests.llm_providers import (
    HELLO,
    SEARCHING,
    SETUPS,
    complete,
    failure,
    said,
    served,
    unfinished,
)
from tests.llm_servers import Answer, Json, refusal, stream

KEY = "sk-FAKE0/1+2=3&4'5<6>7\"8%9\\Zq71kD0w"
"""A key that every spelling changes."""

SPELLINGS: Mapping[str, Callable[[str], str]] = {
    "as it is": str,
    "bearer": lambda key: f"Bearer {key}",
    "in capitals": str.upper,
    "in small letters": str.lower,
    "a URL": lambda key: quote(key, safe=""),
    "a path": quote,
    "a form": quote_plus,
    "JSON": lambda key: json.dumps({"key": key}),
    "Python": repr,
    "HTML": html.escape,
    "basic authentication": lambda key: b64encode(f"user:{key}".encode()).decode(),
    "base64": lambda key: b64encode(key.encode()).decode(),
    "base64 of a header": lambda key: b64encode(f"Bearer {key}".encode()).decode(),
    "base64 for URLs": lambda key: urlsafe_b64encode(f"u:{key}".encode()).decode(),
    "base64 in a URL": lambda key: quote(b64encode(f"a:{key}".encode()).decode(), safe=""),
    "hex": lambda key: key.encode().hex(),
    "hex in capitals": lambda key: key.encode().hex(":").upper().replace(":", ""),
    "its beginning": lambda key: key[: PIECE + 5],
    "its end": lambda key: key[-PIECE - 5 :],
    "ASCII": ascii,
    "twice": lambda key: f"{key}{key}",
}
"""Spellings in which most of a key stands as it is, or in one of a few forms."""

WHOLLY: Mapping[str, Callable[[str], str]] = {
    "each letter for a URL": lambda key: "".join(f"%{octet:02X}" for octet in key.encode()),
    "each letter in HTML": lambda key: "".join(f"&#{ord(each)};" for each in key),
    "each letter in HTML, in hex": lambda key: "".join(f"&#x{ord(each):x};" for each in key),
    "each letter in JSON": lambda key: "".join(f"\\u{ord(each):04x}" for each in key),
    "each letter in JSON in JSON": lambda key: "".join(f"\\\\u{ord(each):04X}" for each in key),
    "each letter in Python": lambda key: "".join(f"\\x{octet:02x}" for octet in key.encode()),
    "each letter in C": lambda key: "".join(f"\\{octet:03o}" for octet in key.encode()),
    "every other letter": lambda key: "".join(
        f"%{ord(each):02x}" if i % 2 else each for i, each in enumerate(quote(key, safe=""))
    ),
    "a URL in a URL": lambda key: quote(
        "".join(f"%{octet:02X}" for octet in key.encode()), safe=""
    ),
    "base64 of the header": lambda key: _base64(f"Basic {_base64(f'user:{key}')}"),
    "base64 of base64 of base64": lambda key: _base64(_base64(_base64(key))),
    "base64 of JSON": lambda key: _base64(json.dumps({"headers": {"key": f"Bearer {key}"}})),
    "base64 in lines": lambda key: encodebytes(f"key: {'x' * 60}{key}".encode()).decode(),
    "base64 of hex": lambda key: _base64(key.encode().hex()),
    "hex of base64": lambda key: _base64(key).encode().hex(),
    "hex with blanks": lambda key: key.encode().hex(" "),
    "hex with colons": lambda key: key.encode().hex(":"),
    "hex in C": lambda key: ", ".join(f"0x{octet:02x}" for octet in key.encode()),
    "numbers": lambda key: str(list(key.encode())),
}


"""Spellings in which no letter stands as it is: to be hidden they are read."""


def _base64(text: str) -> str:
    return b64encode(text.encode()).decode()


@dataclass(frozen=True, slots=True)
class Raw(Answer):
    """An answer that is sent as it is, status line and all."""

    def encode(self) -> bytes:
        """Return what goes over the wire."""
        return self.body


def event(provider: str, words: str) -> Json:
    """Return an error event of a stream."""
    told = {"message": words, "type": "server_error", "code": words}
    return {"type": "error", **told} if provider == "openai" else {"type": "error", "error": told}


def kinds(provider: str, words: str) -> Mapping[str, Answer]:
    """Return the ways in which a server says no, with these words in it."""
    body = {"error": {"message": f"Incorrect API key: {words}.", "type": "x", "code": words}}
    line = json.dumps(words)[1:-1]
    found = {
        "401": refusal(401, body),
        "400": refusal(400, body),
        "404": refusal(404, {"detail": [words, {words: [words]}]}),
        "429": refusal(429, body, retry_after=line),
        "500": refusal(500, body),
        "a page": refusal(502, f"<html>{words}</html>"),
        "text at the limit": refusal(500, f"{'x' * 190}{words}"),
        "a long body": refusal(
            400, {"error": {"message": "No.", "more": "x" * 19_900 + words * 9}}
        ),
        "a redirect": refusal(307, "", location=f"http://127.0.0.1:1/{line}"),
        "headers": refusal(403, {"error": {"message": "No."}}, x_echo=line, www_authenticate=line),
        "an event": stream(*unfinished(provider)[:2], event(provider, words)),
        "no event": stream(f"data: {json.dumps(words)}\n\n"),
        "half an event": stream(f'data: {{"message": {words}\n\n'),
        "a stop of its own": stream(*said(provider, "So.", stop=words)),
        "no HTTP": Raw(f"{line} is not HTTP\r\n\r\n".encode()),
        "a bad header": Raw(f"HTTP/1.1 200 {line}\r\n{line}\r\n\r\n".encode()),
        "a bad length": Raw(f"HTTP/1.1 401 No\r\ncontent-length: {line}\r\n\r\n".encode()),
        "a bad encoding": refusal(401, words, content_encoding="gzip"),
    }
    if provider == "google":
        del found["a stop of its own"]  # Gemini may give any
    return found


def everything_told(error: BaseException) -> str:
    """Return all that can be recorded, logged or shown of an error."""
    told = [str(error), repr(error), encode_failure(failure_of(error))]
    told += [str(getattr(error, "body", "")), *traceback.format_exception(error)]
    return "\n".join(told)


def pieces_of(spelled: str, told: str, size: int = PIECE) -> list[str]:
    """Return the pieces of a spelled key that a text holds, in upper or lower case."""
    low, spelled = told.lower(), spelled.lower()
    cut = [spelled[i : i + size] for i in range(len(spelled) - size + 1)]
    return [piece for piece in cut if piece in low]


def readings(text: str) -> list[str]:
    """Return a text as a program may read it: escapes and encodings undone, again and again."""
    found = [text]
    for _ in range(3 if len(text) < 1000 else 2):
        found += [undo(each) for each in found for undo in (html.unescape, unquote, backslashes)]
        found += [inner for each in found for inner in within(each)]
        found = list(dict.fromkeys(found))
    return found


def backslashes(text: str) -> str:
    """Return a text without what JSON, Python and C write with a backslash."""
    escape = r"\\+(?:u([0-9a-f]{4})|x([0-9a-f]{2})|([0-7]{3}))"

    def sign(found: re.Match[str]) -> str:
        return chr(int(found[3], 8) if found[3] else int(found[1] or found[2], 16))

    return re.sub(escape, sign, text, flags=re.IGNORECASE)


def within(text: str) -> Iterator[str]:
    """Yield what the longer words of a text are in base64, in hex and in numbers."""
    for word in re.findall(r"[A-Za-z0-9+/]{12,}", re.sub(r"(?<=\w)(\\n|\n)(?=\w)", "", text)):
        yield b64decode(word[: len(word) // 4 * 4]).decode("latin-1")
    for run in re.findall(r"(?:[0-9a-f]{2}[ :]?){6,}", text):
        yield bytes.fromhex(re.sub("[ :]", "", run)).decode("latin-1")
    for run in re.findall(r"(?:0x[0-9a-f]{2}, ){6,}", text):
        yield bytes.fromhex(re.sub("0x|, ", "", run)).decode("latin-1")
    for run in re.findall(r"(?:[0-9]{2,3}, ){6,}", text):
        yield "".join(chr(int(each)) for each in run.split(", ")[:-1])


EACH = 3


def some_kinds(provider: str, words: str, place: int) -> Mapping[str, Answer]:
    """Return each third way: over the places each one, and over the providers each at a place.

    What hides a key reads texts, whoever has sent them; so a spelling in one way is tried with one
    provider or two, while each provider is tried with every spelling and in every way.
    """
    first = (place + [*SETUPS].index(provider)) % EACH
    return dict([*kinds(provider, words).items()][first::EACH])


def test_each_kind_meets_each_spelling():
    """Some provider is tried with each spelling in each way, and each provider with all of both."""
    tried = {
        (provider, place, kind)
        for provider in SETUPS
        for place in range(len(SPELLINGS))
        for kind in some_kinds(provider, KEY, place)
    }
    ways = {provider: set(kinds(provider, KEY)) for provider in SETUPS}

    pairs = {(place, kind) for place in range(len(SPELLINGS)) for kind in ways["openai"]}
    assert {(place, kind) for _, place, kind in tried} == pairs
    for provider in SETUPS:
        theirs = {(place, kind) for each, place, kind in tried if each == provider}
        assert {place for place, _ in theirs} == set(range(len(SPELLINGS)))
        assert {kind for _, kind in theirs} == ways[provider]


@pytest.mark.parametrize("provider", SETUPS)
async def test_errors(monkeypatch, provider, record_property):
    """Whatever a server answers with the key in it, the error tells no piece of the key."""
    setup, tried = SETUPS[provider], 0
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "")
    for place, (spelling, spell) in enumerate(SPELLINGS.items()):
        words = spell(KEY)
        answers = some_kinds(provider, words, place)
        async with served(monkeypatch, provider, *answers.values()):
            monkeypatch.setenv(setup.key, KEY)
            for kind in answers:
                told = everything_told(await failure(Model(setup.model)))
                tried += 1
                assert pieces_of(words, told, PIECE + 8) == [], (spelling, kind, told)
                assert pieces_of(KEY, told) == [], (spelling, kind, told)
    assert tried >= len(SPELLINGS) * len(kinds(provider, KEY)) // EACH
    record_property("errors", tried)


@pytest.mark.parametrize("provider", SETUPS)
async def test_errors_with_every_letter_escaped(monkeypatch, provider):
    """Nor does an error that repeats the key so that it has to be read before it is seen."""
    setup = SETUPS[provider]
    for spelling, spell in WHOLLY.items():
        answers = kinds(provider, spell(KEY))
        answers = {kind: answers[kind] for kind in ("401", "a page", "text at the limit")}
        async with served(monkeypatch, provider, *answers.values()):
            monkeypatch.setenv(setup.key, KEY)
            for kind in answers:
                told = str(error := await failure(Model(setup.model))) + str(error.body)
                tells = [each for each in readings(told) if pieces_of(KEY, each)]
                assert tells == [], (spelling, kind, told)


@pytest.mark.parametrize("provider", SETUPS)
async def test_key_of_a_model(monkeypatch, provider):
    """The key that `Model(…, key=…)` names is hidden, as are those that no model names."""
    setup = SETUPS[provider]
    named, token = "FAKE-named-key-0001", "FAKE-other-token-0002"
    body = {"error": {"message": f"No: {named} {token} {KEY}"}}
    async with served(monkeypatch, provider, refusal(401, body)) as server:
        monkeypatch.setenv(setup.key, KEY)
        monkeypatch.setenv("MY_KEY", named)
        monkeypatch.setenv("OPENAI_ADMIN_KEY", token)
        base_url = server.url + setup.wire_path
        error = await failure(Model(setup.model, base_url=base_url, key="MY_KEY"))

    assert body["error"]["message"] not in str(error)
    assert f"No: {MASK} {MASK} {MASK}" in str(error)
    assert [each for each in (named, token, KEY) if each in everything_told(error)] == []


@pytest.mark.parametrize("provider", SETUPS)
async def test_login_of_a_base_url(monkeypatch, provider):
    """What a base URL or a proxy has for a login is hidden as a key is."""
    setup = SETUPS[provider]
    body = {"error": {"message": "No: FAKEpassword1 FAKEtoken-22 FAKEproxy-333 127.0.0.1"}}
    async with served(monkeypatch, provider, refusal(401, body), refusal(401, body)) as server:
        monkeypatch.setenv("SOME_KEY", "a-key")
        monkeypatch.setenv("HTTPS_PROXY", "http://p:FAKEproxy-333@proxy:3128")
        login = server.url.replace("//", "//me:FAKEpassword1@") + setup.wire_path
        monkeypatch.setenv(setup.url, f"{login}?api_key=FAKEtoken-22")
        error = await failure(Model(setup.model, base_url=login, key="SOME_KEY"))

    assert f"{MASK} {MASK} {MASK} 127.0.0.1" in str(error)
    assert "FAKE" not in everything_told(error)


KEYS_THAT_CANNOT_BE = [
    "sk-FAKEnewline-0123456789\n",
    "sk-FAKEcontrol-\x01-0123456789",
    "sk-FAKE-ключ-0123456789",
    "  sk-FAKEblanks-0123456789  ",
]


@pytest.mark.parametrize("key", KEYS_THAT_CANNOT_BE)
@pytest.mark.parametrize("provider", SETUPS)
async def test_keys_that_cannot_be_sent(monkeypatch, provider, key):
    """A key with what no header may hold is in no error about that, nor in one of a server."""
    body = {"error": {"message": f"No: {key} {key!r} {key!a} {key.encode()!r}"}}
    async with served(monkeypatch, provider, refusal(401, body)):
        monkeypatch.setenv(SETUPS[provider].key, key)
        error = await failure(Model(SETUPS[provider].model))

    assert pieces_of(key.strip(), everything_told(error), 8) == []


def test_login_of_a_model():
    """A model that is shown shows no login, and a base URL that is none is not quoted."""
    assert "FAKE" not in repr(Model("openai-chat:x", base_url="http://u:FAKE-pass@h/v1"))
    with pytest.raises(Misuse, match="base_url= of 'openai-chat:x' is no URL") as caught:
        Model("openai-chat:x", base_url="http://u:FAKE-pass@[h/v1")
    assert "FAKE" not in str(caught.value)


@pytest.mark.parametrize("provider", SETUPS)
async def test_what_tells_no_key_stays(monkeypatch, provider):
    """An error that tells no key is told whole, with what it came from."""
    message = "The key sk-FAKE is wrong; see https://example.com/keys?x=1."
    async with served(monkeypatch, provider, refusal(401, {"error": {"message": message}})):
        monkeypatch.setenv(SETUPS[provider].key, KEY)
        error = await failure(Model(SETUPS[provider].model))

    assert message in str(error)
    assert error.__cause__ is not None


@pytest.mark.parametrize("provider", SETUPS)
async def test_answers(monkeypatch, provider):
    """A key in an answer is hidden: in its words, as they come and at the end, and in its calls."""
    key = "sk-FAKE01234567-abcdefghij"
    words = f"Your key is {key}, or sk-FAKE for short."
    call = ("c1", "search", json.dumps({"query": f"who has {key}?", "n": [key]}))
    told: list[str] = []
    async with served(monkeypatch, provider, stream(*said(provider, words, call))):
        monkeypatch.setenv(SETUPS[provider].key, key)
        reply = await Model(SETUPS[provider].model).answer(SEARCHING, told.append)

    assert key not in json.dumps(reply.to_json())
    assert reply.text == "".join(told) == f"Your key is {MASK}, or sk-FAKE for short."
    assert reply.tool_calls[0].arguments == {"query": f"who has {MASK}?", "n": [MASK]}


@pytest.mark.parametrize("provider", SETUPS)
async def test_answers_are_not_changed(monkeypatch, provider):
    """An answer is as it was said where the key is a word that answers may hold."""
    words = "LM Studio takes lm-studio for a key; Anthropic's begin with sk-ant-api03-."
    told: list[str] = []
    async with served(monkeypatch, provider, stream(*complete(provider, words))):
        monkeypatch.setenv(SETUPS[provider].key, "lm-studio")
        monkeypatch.setenv("GROQ_API_KEY", "sk-ant-api03-FAKEFAKEFAKE123")
        reply = await Model(SETUPS[provider].model).answer(HELLO, told.append)

    assert reply.text == "".join(told) == words


@pytest.mark.parametrize("provider", SETUPS)
async def test_listener(monkeypatch, provider):
    """What the listener of an answer raises passes through as it is."""

    def listen(words: str) -> None:
        raise LookupError(f"{words} {KEY}")

    async with served(monkeypatch, provider, stream(*complete(provider))):
        monkeypatch.setenv(SETUPS[provider].key, KEY)
        with pytest.raises(LookupError, match="sk-FAKE0"):
            await Model(SETUPS[provider].model).answer(HELLO, listen)


# ------------------------------------------------------------------------------------------------
# The logs of the SDKs


LOGGED = ("as it is", "in capitals", "a URL", "JSON", "basic authentication", "hex", "its end")
"""Spellings in which a key is logged. Each provider answers in each way to two of them, or more."""


class Heard(logging.Handler):
    """Somebody's own handler, which keeps all that a record has, as a handler may send it on."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.told: list[str] = []
        self.loggers: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what it tells."""
        self.told.append(f"{self.format(record)} {record.msg!r} {record.args!r} {vars(record)!r}")
        self.told += traceback.format_exception(error) if (error := _error_of(record)) else []
        self.loggers.add(record.name.partition(".")[0])


def _error_of(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None


@pytest.fixture
def heard() -> Iterator[Heard]:
    """Provide what hears everything that is logged in this process, at DEBUG."""
    root, handler = logging.getLogger(), Heard()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield handler
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


@pytest.mark.parametrize("provider", SETUPS)
async def test_logs(monkeypatch, provider, heard, record_property):
    """No SDK and no HTTP client logs a key, whatever its server says, and wherever it says it."""
    setup, tried = SETUPS[provider], 0
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "")
    for place, spelling in enumerate(LOGGED):
        words = SPELLINGS[spelling](key := "sk-FAKE-l0gged-0Zq71kD0w")
        line = json.dumps(words)[1:-1]
        spoken = stream(f": {line}\nid: {line}\nretry: {line}\n", *complete(provider))
        fine = replace(spoken, headers={**spoken.headers, "x-request-id": line})
        answers = [*some_kinds(provider, words, place).values(), fine]
        async with served(monkeypatch, provider, *answers) as server:
            monkeypatch.setenv(setup.key, key)
            base_url = server.url.replace("//", "//me:FAKE-pass-0word@") + setup.wire_path
            monkeypatch.setenv(setup.url, base_url)
            for _ in answers[:-1]:
                await failure(Model(setup.model))
            await Model(setup.model).answer(HELLO)
        tried += len(answers)
        told = "\n".join(heard.told)
        assert pieces_of(words, told, PIECE + 8) == [], spelling
        assert [each for each in (*pieces_of(key, told), "FAKE-pass") if each in told] == []
        heard.told.clear()
    assert {"httpcore", "httpx"} <= {each.rstrip("2") for each in heard.loggers}
    record_property("answers", tried)


@pytest.mark.parametrize("provider", SETUPS)
async def test_logs_without_a_key_stay(monkeypatch, provider, heard):
    """What the SDKs log stays as it is where it tells no key, arguments and errors included."""
    answers = [Raw(b"no HTTP\r\n\r\n"), refusal(403, {"error": "No."}, x_echo="spoken")]
    async with served(monkeypatch, provider, *answers):
        monkeypatch.setenv(SETUPS[provider].key, KEY)
        for _ in answers:
            await failure(Model(SETUPS[provider].model))

    told = "\n".join(heard.told)
    assert "illegal status line" in told
    assert "(b'x-echo', b'spoken')" in told
    assert MASK not in told


# ------------------------------------------------------------------------------------------------
# The mask itself


@settings(deadline=None)
@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=60),
    st.text(max_size=30),
    st.text(max_size=30),
    st.sampled_from(sorted(SPELLINGS)),
)
@example("00000000", "", "0", "base64")
def test_hidden_in_any_text(key, before, after, spelling):
    """A secret of 8 characters or more is hidden in any text, in any spelling."""
    words = SPELLINGS[spelling](key)
    hidden = Mask([key]).hide(f"{before}{words}{after}")

    known = words if "base64" not in spelling and "basic" not in spelling else ""
    assert key not in hidden or len(key.strip()) < 8
    if len(key) >= PIECE and spelling not in ("JSON", "Python"):
        assert pieces_of(known, hidden) == []


@settings(deadline=None, max_examples=50)
@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=PIECE, max_size=60),
    st.text(" \n.,", max_size=30),
    st.sampled_from(sorted(WHOLLY)),
    st.sampled_from(sorted(WHOLLY)),
)
def test_hidden_in_any_wrapping(key, before, inner, outer):
    """A secret is hidden in any spelling of any spelling, and the text around it stays."""
    for words in (WHOLLY[inner](key), WHOLLY[outer](WHOLLY[inner](key))):
        text = f"{before} {words} {before}"
        for hidden in (Mask([key]).hide(text), Mask([key], are_sure=True).hide_keys(text)):
            assert MASK in hidden
            assert hidden.startswith(before)
            assert hidden.endswith(before)
            assert [each for each in readings(hidden) if key in each] == []


@given(st.text(max_size=200), st.lists(st.text(max_size=7)))
def test_nothing_else_is_hidden(text, secrets):
    """A text without a secret stays as it is; what is shorter than 8 characters is none."""
    assert Mask(secrets).hide(text) == text
    assert Mask(["FAKE-secret-0000001"]).hide(text) == text
    assert Mask(["FAKE-secret-0000001"]).hide_keys(text) == text


ESCAPED = [WHOLLY[each]("sk-FAKE0123456789abc") for each in WHOLLY if each.startswith("each ")]
PARTS = ["sk-FAKE0123456789abc", "sk-", "FAKE", " word ", "…", "%", "&", "\\u00", *ESCAPED]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(PARTS), max_size=6), st.data())
def test_hidden_as_it_comes(parts, data):
    """A key that comes in pieces is hidden as one that comes whole, escaped or not."""
    whole, mask, told = "".join(parts), Mask(["sk-FAKE0123456789abc"]), []
    words = Words(mask, told.append)
    left = whole
    while left:
        count = data.draw(st.integers(1, len(left)))
        words.take(left[:count])
        left = left[count:]
    words.end()

    # An escape is one without its semicolon, too, which may come when the rest is hidden already.
    assert "".join(told).replace("…;", "…") == mask.hide_keys(whole).replace("…;", "…")


def test_hiding_is_quick():
    """The longest body that is kept is looked through in less than a quarter of a second."""
    mask, began = Mask([KEY, "x" * 100]), process_time()

    mask.hide("y" * 20_000)

    assert process_time() - began < 0.25


LONG = {
    "words": "The quick brown fox jumps. " * 40_000,
    "a page": '<p class="a">x &amp; y &lt;b&gt; %20 caf&eacute;</p>\n' * 20_000,
    "escapes": "%41&#66;\\u0043" * 60_000,
    "base64": b64encode(bytes(range(256)) * 3000).decode(),
    "hex": "a1" * 500_000,
    "numbers": "123, " * 200_000,
}


@pytest.mark.parametrize("kind", LONG)
def test_long_values_are_quick(kind, record_property):
    """A megabyte that a run records is looked through in less than three seconds."""
    mask, began = Mask([KEY, "x" * 100], are_sure=True), process_time()

    assert mask.hide_keys(LONG[kind]) == LONG[kind]

    took = process_time() - began
    record_property("seconds", took)
    assert took < 3
