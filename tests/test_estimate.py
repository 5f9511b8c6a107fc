"""One estimate of tokens for all: what is shown counts as its provider says, not by its bytes."""

import struct
import sys
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType

import pytest

from substrate.agent.shorten import TOKEN_CHARS, size
from substrate.models import frame
from substrate.models.frame import canonical
from substrate.models.limits.limiter import need_of
from substrate.models.limits.model_limits import ModelLimits
from substrate.models.messages import (
    Document,
    Image,
    Message,
    PassedOver,
    Text,
    ToolMessage,
    ToolResult,
    Usage,
    UserMessage,
)
from substrate.models.model import Model
from substrate.models.prices import counted
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.models.tokens import (
    estimate,
    pages_of,
    size_of,
    tokens,
    tokens_shown,
)
from substrate.testing import ManualClock
from substrate.values.codec import encode
from tests.llm_providers import SEARCH

PLENTY = {
    "x-ratelimit-remaining-tokens": "900000",
    "x-ratelimit-limit-tokens": "1000000",
    "x-ratelimit-reset-tokens": "6s",
}
"""Headers that make each call be estimated, and none wait."""


def png(width: int, height: int, padding: int = 0) -> bytes:
    """Return a file that begins as a PNG of this size does."""
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height)
    return header + bytes(padding)


def jpeg(width: int, height: int) -> bytes:
    """Return a file that begins as a JPEG with a preview and a comment does."""
    preview = b"\xff\xe1" + struct.pack(">H", 10) + b"Exif\0\0\0\0"
    comment = b"\xff\xff\xfe" + struct.pack(">H", 4) + b"ok"
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 11, 8, height, width, 1) + bytes(3)
    return b"\xff\xd8" + preview + comment + frame


def webp(kind: bytes, size: bytes) -> bytes:
    """Return a file that begins as a WebP does."""
    return b"RIFF" + bytes(4) + b"WEBP" + kind + bytes(4) + size


PICTURES = {
    "png": png(800, 600),
    "gif": b"GIF89a" + struct.pack("<HH", 800, 600),
    "jpeg": jpeg(800, 600),
    "webp": webp(b"VP8 ", bytes(6) + struct.pack("<HH", 800, 600 | 0x4000)),
    "webp lossless": webp(b"VP8L", b"\x2f" + struct.pack("<I", 799 | 599 << 14)),
    "webp extended": webp(b"VP8X", bytes(4) + struct.pack("<HBHB", 799, 0, 599, 0)),
}


@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)
def test_the_size_of_a_picture(picture):
    """The width and height stand in the header, and a picture that is cut off tells none."""
    assert size_of(picture) == (800, 600)
    for length in range(len(picture) - 4):
        assert size_of(picture[:length]) in (None, (800, 600))


@pytest.mark.parametrize("data", [b"", b"no picture", png(0, 9), b"\xff\xd8\xff", b"\xff\xd8" * 9])
def test_no_picture(data):
    """What tells no size counts as a large picture."""
    assert size_of(data) is None
    assert tokens_shown(Image(data), "anthropic") == 1600


@pytest.mark.parametrize(
    "provider, small, large",
    [("anthropic", 54, 1600), ("openai", 255, 765), ("google", 258, 1032), ("other", 258, 1600)],
)
def test_a_picture_counts_as_its_provider_says(provider, small, large):
    """A picture's tokens depend on its pixels and its provider, never on its bytes."""
    for padding in (0, 1_000_000):
        assert tokens_shown(Image(png(200, 200, padding)), provider) == small
        assert tokens_shown(Image(png(1024, 1024, padding)), provider) <= large
    assert tokens_shown(Image(png(9000, 9000)), provider) >= large


def test_documents():
    """A PDF counts by its pages, or by its bytes where they are packed; text by its letters."""
    pdf = (
        b"%PDF-1.7 <</Type /Pages /Count 3>>" + b"<< /Type /Page >> <</Type/Page/Parent 1 0 R>>" * 3
    )

    assert pages_of(pdf) == 6
    assert tokens_shown(Document(pdf), "anthropic") == 18_000
    assert tokens_shown(Document(pdf), "google") == 6 * 258
    assert pages_of(bytes(500_000)) == 10
    assert tokens_shown(Document(b"word" * 100, "text/plain"), "google") == 100


def test_all_ask_one():
    """Limits, prices, the scripted model and summaries count a large picture alike."""
    picture = Image(png(1024, 1024, 1_000_000))
    words, shown = UserMessage((Text("What is it?"),)), UserMessage((Text("What is it?"), picture))
    bare, whole = Request("Be brief.", [words]), Request("Be brief.", [shown])

    for provider in ("anthropic", "openai", "google", None):
        makes = tokens_shown(picture, provider)
        part = tokens([{"type": "image", "media_type": "image/png", "data": ""}])
        of_part = estimate(whole, provider) - estimate(bare, provider)
        assert abs(of_part - makes - part) <= 2
        assert need_of(whole, provider) == estimate(whole, provider)
        used = counted(Usage(), whole, None, provider)
        assert used.input_tokens == estimate(whole, provider)
    assert size([shown]) - size([words]) == TOKEN_CHARS * tokens_shown(picture)
    assert estimate(whole) < len(b64encode(picture.data)) / 100


def test_the_whole_is_its_parts():
    """An estimate counts a request as its JSON is, whatever was said and however it was estimated.

    The estimate of a longer transcript is that of its messages and of what they stand in.
    """
    messages = [
        UserMessage.of('Ünïcode, \ud83d and "quotes"'),
        say("I look.", call("search", query="owls", deep={"a": [1, None, "ö"]})),
        ToolMessage((ToolResult("call_0_1", "search", "Two owls.\n" * 40),)),
        replace(say("Two."), passed_over=(PassedOver("a:1", "quota", "no" * 99),)),
    ]
    for count in range(len(messages) + 1):
        request = Request("Be brief.", messages[:count], [SEARCH], 900, {"temperature": 0.5})
        assert estimate(request) == max(tokens(canonical(request)), 1)


async def test_a_message_becomes_json_once():
    """However long a conversation is and however often it is estimated, a message is once JSON."""
    model = Model("scripted:owls", script=["An owl."] * 50)
    limits = ModelLimits.on(ManualClock())
    limits.limiter.observe(model.place, PLENTY)
    messages: list[Message] = [UserMessage.of("How many owls?")]
    with calls_of(frame.as_sent, frame.canonical, encode) as counts:
        for _ in range(20):
            reply = await model.answer(Request("", [*messages]), limits=limits)
            messages += [reply, UserMessage.of("And now?")]

    assert counts[frame.as_sent] == len(messages) - 2, "the last two were not sent"
    assert counts[frame.canonical] == 20, "what is around them, once a call"
    written = 20  # the scripted model's reply, of which it counts the tokens
    assert counts[encode] == counts[frame.as_sent] + counts[frame.canonical] + written


@contextmanager
def calls_of(*functions: Callable[..., object]) -> Iterator[Counter[Callable[..., object]]]:
    """Count how often functions are called while the block runs."""
    codes = {each.__code__: each for each in functions}
    counts: Counter[Callable[..., object]] = Counter()

    def note(at: FrameType, event: str, arg: object) -> None:
        if event == "call" and at.f_code in codes:
            counts[codes[at.f_code]] += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield counts
    finally:
        sys.setprofile(before)


async def test_the_scripted_model_counts_as_the_others_do():
    """A megabyte of a picture is not a third of a million tokens to the model of the tests."""
    shown = UserMessage((Text("What is it?"), Image(png(1024, 1024, 1_000_000))))

    reply = await Model("scripted:test", script=["An owl."]).answer(Request("", [shown]))

    assert 1000 < reply.usage.input_tokens < 2000
