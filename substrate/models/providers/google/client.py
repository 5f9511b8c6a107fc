"""Google's Gemini API, over its own SDK, google-genai.

What is asked for is the raw stream beneath `generate_content_stream`: everything the SDK adds above
it (calling functions by itself, continuing answers, its own types for parts) would do twice what
the kit does, or lose what has to go back byte for byte. Vertex AI is not served.

Invariants: an answer counts only when a candidate has named its finish reason. A part that carries
a thought signature goes back as it came, in its place, to the model that wrote it and no other. A
call without an id, as some servers send them, is given one, which is ours alone and is not sent
back. A turn that the server cuts with CONTINUATION is continued, and counted once.
"""

import json
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from functools import partial
from types import TracebackType
from typing import Self

import httpx2
from google.genai import Client
from google.genai.errors import APIError, UnknownApiResponseError
from google.genai.types import EmbedContentConfig, HttpOptions

from substrate.models import prices
from substrate.models.messages import Json, Reply, Usage
from substrate.models.providers.address import Address
from substrate.models.providers.bounded import bounding
from substrate.models.providers.failures import parsing, rejected, transport_failed
from substrate.models.providers.google import reply as replies
from substrate.models.providers.google.reply import PROVIDER
from substrate.models.providers.google.request import body_of
from substrate.models.providers.stream import Events, Patience, charged, drain, events
from substrate.models.request import OnText, Request
from substrate.values.errors import BadRequest, ModelError

MOST_CONTINUATIONS = 8
"""How often one answer may be continued before it counts as lost."""

CONNECT_S = 10.0
EMBED_S = 60.0
"""How long the vectors of a batch may take."""

VERSION = "v1beta"
"""The API's version, unless GOOGLE_GENAI_API_VERSION names another: not all models are in v1."""

_response: ContextVar[httpx2.Response | None] = ContextVar("_response", default=None)
"""The response that this task's request brought, which the SDK keeps to itself."""

_patience: ContextVar[float] = ContextVar("_patience")
"""How long this task's request may get nothing. The SDK would take it for the longest answer."""


def connect(address: Address) -> "Google":
    """Return the adapter, with the key and base URL of the environment or the address.

    Raises `BadRequest` when these cannot be used.
    """
    prices.load(PROVIDER)
    # A client of our own: the SDK's would be aiohttp's where that is installed, which retries.
    # It follows no redirect, since the conversation would go along.
    hooks = [_keep, bounding(reads_all_as_events=False)]  # in this order: what fails was sent
    transport = httpx2.AsyncClient(event_hooks={"request": [_limit_silence], "response": hooks})
    options = HttpOptions(
        base_url=address.base_url,
        api_version=None if "GOOGLE_GENAI_API_VERSION" in os.environ else VERSION,
        httpx_async_client=transport,
    )
    try:
        return Google(Client(vertexai=False, api_key=address.key, http_options=options), transport)
    except (ValueError, httpx2.InvalidURL) as error:
        raise BadRequest(
            f"{PROVIDER}: {error}; check GOOGLE_GEMINI_BASE_URL and the key"
        ) from error


class Google:
    """The adapter: one client and its connections."""

    __slots__ = ("_client", "_transport")

    def __init__(self, client: Client, transport: httpx2.AsyncClient) -> None:
        self._client = client
        self._transport = transport

    async def close(self) -> None:
        """Close the client's connections."""
        self._client.close()
        await self._transport.aclose()

    async def answer(self, model: str, request: Request, on_delta: OnText) -> Reply:
        """Ask once. An answer that the server cuts in order to be continued is continued."""
        called = f"{PROVIDER}:{model}"
        body = body_of(model, request)
        drafts: list[replies.Draft] = []
        patience = Patience.of(request)
        with charged(partial(_charge, model, request, drafts)):
            while len(drafts) <= MOST_CONTINUATIONS:
                drafts.append(replies.Draft())
                opening = _open(self._client, model, body, patience.silence_s)
                coming = events(called, _Translator(), opening, patience, replies.says)
                await _read(called, coming, drafts[-1], on_delta)
                if drafts[-1].finish != "CONTINUATION":
                    with parsing(called):
                        return replies.reply(model, request, drafts)
                if not drafts[-1].continuation:
                    raise transport_failed(
                        called, "cut its answer and gave no token to continue it"
                    )
                body = {**body, "continuationToken": drafts[-1].continuation}
            raise BadRequest(f"{called} cut its answer {len(drafts)} times; ask for a shorter one")

    async def embed(
        self, model: str, texts: Sequence[str], dimension: int
    ) -> Sequence[Sequence[float]]:
        """Return the vectors of texts, in order."""
        called = f"{PROVIDER}:{model}"
        _patience.set(EMBED_S)
        _response.set(None)
        with _Translator().failing_as_ours(called):
            answer = await self._client.aio.models.embed_content(
                model=model,
                contents=list(texts),
                config=EmbedContentConfig(output_dimensionality=dimension),
            )
        with parsing(called):
            return [each.values or () for each in answer.embeddings or ()]


async def _read(called: str, coming: Events, draft: replies.Draft, on_delta: OnText) -> None:
    """Read an answer, as far as it goes, into a draft."""
    async with aclosing(coming):
        async for event in coming:
            if "error" in event:
                raise rejected(called, event)
            with parsing(called):
                words = draft.take(event)
            if words:
                on_delta(words)
            if draft.is_complete:
                async for late in drain(coming):  # what was counted, if it comes by itself
                    draft.counts.update(prices.counts_in(late.get("usageMetadata")))
    if not draft.is_complete:
        raise transport_failed(called, "ended its stream before the answer was complete")


def _charge(
    model: str, request: Request, drafts: list[replies.Draft], error: ModelError
) -> Usage | None:
    taken = drafts[-1:] if error.was_taken else []
    begun = [draft for draft in drafts if draft.has_begun or draft in taken]
    return replies.usage(model, request, begun) if begun else None


class _Translator:
    """What knows the SDK's errors."""

    @contextmanager
    def failing_as_ours(self, model: str) -> Iterator[None]:
        """Turn what the SDK and its transport raise about a model into `ModelError`."""
        try:
            yield
        except APIError as error:
            headers = getattr(error.response, "headers", None)
            raise rejected(model, error.details, status=error.code, headers=headers) from error
        except httpx2.HTTPError as error:
            raise transport_failed(model, f"broke off: {error!r}") from error
        except UnknownApiResponseError as error:
            raise transport_failed(model, f"sent what cannot be read: {error}") from error
        except (ValueError, TypeError, RecursionError, httpx2.InvalidURL) as error:
            # Before the request, a setting that is not JSON; after it, an answer that is none.
            if _response.get() is None:
                raise BadRequest(f"{model} was not asked: {error}; correct the request") from error
            raise transport_failed(model, f"sent what cannot be read: {error}") from error


class _Stream:
    """A streamed response as plain JSON, closed when its reader is done.

    The SDK's own reader takes a comment, which gateways send to keep a connection open, for half
    of an error, and then the answer with it.
    """

    __slots__ = ("response",)

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.response.aclose()

    async def __aiter__(self) -> AsyncIterator[Json]:
        """Yield each event's data; a body that is no stream of events is JSON itself."""
        data: list[str] = []
        bare: list[str] = []
        async for line in _lines(self.response):
            name, _, value = line.partition(":")
            if not line:
                if data:
                    yield json.loads("\n".join(data))
                    data.clear()
            elif name == "data":
                data.append(value.removeprefix(" "))
            elif name not in ("", "event", "id", "retry"):
                bare.append(line)
        rest = data or bare  # the last event may lack its empty line
        if rest:
            body = json.loads("\n".join(rest))
            for each in body if isinstance(body, list) else [body]:
                yield each


async def _lines(response: httpx2.Response) -> AsyncIterator[str]:
    """Yield the lines of a body. Its JSON may hold other separators, at which `splitlines` cuts."""
    rest = b""
    async for piece in response.aiter_bytes():
        *lines, rest = (rest + piece).replace(b"\r\n", b"\n").split(b"\n")
        for line in lines:
            yield line.decode().removesuffix("\r")
    if rest:
        yield rest.decode().removesuffix("\r")


async def _open(client: Client, model: str, body: dict[str, Json], timeout_s: float) -> _Stream:
    _response.set(None)
    _patience.set(timeout_s)
    name = model if "/" in model else f"models/{model}"
    await client.aio._api_client.async_request_streamed(  # noqa: SLF001 - see the module
        "post",
        f"{name}:streamGenerateContent?alt=sse",
        dict(body),
    )
    response = _response.get()
    assert response is not None, "the hook of our client kept it"
    return _Stream(response)


async def _keep(response: httpx2.Response) -> None:
    _response.set(response)


async def _limit_silence(request: httpx2.Request) -> None:
    seconds = _patience.get()
    silence = dict.fromkeys(("read", "write", "pool"), seconds)
    request.extensions["timeout"] = {"connect": min(seconds, CONNECT_S), **silence}
