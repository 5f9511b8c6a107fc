"""Tells people of open gates: notifiers, and the two that the kit has.

A notifier is a function of a `Notice`. It is called at once when a gate is asked, at each reminder,
and when it is escalated; each call is a step of its own. It is called at least once, with a key
that stays the same; one that fails is tried three times, and never fails the run.
"""

import hashlib
import hmac
import inspect
import json
import math
import time
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from functools import cache, partial
from itertools import repeat
from typing import Any
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

from substrate.agent.named_step import named_step
from substrate.engine.context.context import Context
from substrate.engine.failure import decode_failure
from substrate.engine.function.place import described
from substrate.engine.run.services import log
from substrate.engine.step.step import Step
from substrate.values.codec import decode
from substrate.values.errors import Misuse
from substrate.values.gates import code_of
from substrate.values.records import Effect, JsonText, Promise, PromiseState
from substrate.values.retry import Retry
from substrate.values.secret import Secret

_TIMEOUT_S = 5.0
_RETRY = Retry(max_attempts=3, initial=timedelta(seconds=0.5), max_delay=timedelta(seconds=1))


@dataclass(frozen=True, slots=True)
class Notice:
    """What people are told of an open gate."""

    #: The gate's id.
    gate: str
    #: Its short name: what one types.
    code: str
    #: The run that asks.
    run: str
    #: ``approval``, ``question`` or ``unknown``.
    kind: str
    #: The tool that is to be called.
    tool: str
    #: One line.
    summary: str
    #: What is shown: the arguments of the call, or the question with its choices.
    shown: dict[str, Any]
    #: The digest that a decision names.
    digest: str
    #: Who is asked, where the policy says so; from the escalation on, who is told then.
    to: str | None
    #: When its time is over, in ms since 1970; None is never.
    expires_at: int | None
    #: 0 at once, then one more at each reminder.
    reminder: int = 0


Notifier = Callable[[Notice], Any]
"""Tells somebody of a gate: a plain or an async function."""


@dataclass(frozen=True, slots=True)
class Notify:
    """The hook `notify`: no notifier, one or several."""

    notifiers: tuple[Notifier, ...] = field(default=())

    @property
    def is_any(self) -> bool:
        """Whether anybody is told."""
        return bool(self.notifiers)


_CURE = 'webhook("https://example.org/hook", secret=Secret("HOOK_SECRET"))'

NOBODY = Notify()
"""Nobody is told; whoever looks sees the gate."""


_TELLING: ContextVar[Notify] = ContextVar("ostinato_notify", default=NOBODY)
_AT_WORK: ContextVar[str | None] = ContextVar("ostinato_agent", default=None)


@contextmanager
def at_work(agent: str | None, notify: Notify) -> Iterator[None]:
    """Let gates that are asked in this block be told to these notifiers, as this agent's."""
    tokens = _AT_WORK.set(agent), _TELLING.set(notify)
    try:
        yield
    finally:
        _AT_WORK.reset(tokens[0])
        _TELLING.reset(tokens[1])


def current_agent() -> str | None:
    """Return the name of the agent that is at work; None where its hooks have none."""
    return _AT_WORK.get()


def current_notify() -> Notify:
    """Return who is told of gates of the agent that is at work."""
    return _TELLING.get()


def notify_of(given: Any) -> Notify:
    """Return the hook `notify`. Raises `Misuse` for what is none."""
    if given is None:
        return NOBODY
    found = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    for each in found:
        if each is webhook:  # it takes one argument, as a notifier does
            raise Misuse(
                f"`notify` has {described(each)}, which makes a notifier; call it: {_CURE}"
            )
        if not callable(each) or isinstance(each, type):
            raise Misuse(f"`notify` has {described(each)}; write functions of a Notice, as {_CURE}")
    return Notify(tuple(found))


def tell(notify: Notify) -> Callable[[Context, Promise, int], Awaitable[None]]:
    """Return what tells all of them, by steps in the context of a gate."""

    async def tell_all(ctx: Context, gate: Promise, n: int) -> None:
        notice = _notice(gate, n)
        # Named by number, for a reminder that was missed leaves no step. Side by side: one that is
        # away keeps nobody else from being told.
        names = [f"tell_{n}_{i}" if i else f"tell_{n}" for i in range(len(notify.notifiers))]
        steps = map(_step, names, notify.notifiers, repeat(notice))
        for row in await ctx.gather(*[ctx.checkpoint(step).settled() for step in steps]):
            if row.state is not PromiseState.RESOLVED:  # told; it must not fail the run
                why = decode_failure(row).message
                log.warning("run %s: nobody was told of %s: %s", gate.run_id, notice.code, why)

    return tell_all


def _step(name: str, notifier: Notifier, notice: Notice) -> Step:
    function = notifier
    while isinstance(function, partial):
        function = function.func
    own = function if inspect.isroutine(function) else type(function).__call__
    call = _tell if inspect.iscoroutinefunction(own) else _tell_plainly
    step = named_step(name, partial(call, notifier, notice))
    return replace(step, effect=Effect.IDEMPOTENT, retry=_RETRY, timeout=_TIMEOUT_S)


async def _tell(notifier: Notifier, notice: Notice) -> None:
    await notifier(notice)


def _tell_plainly(notifier: Notifier, notice: Notice) -> None:
    returned = notifier(notice)
    if inspect.iscoroutine(returned):
        returned.close()
        raise Misuse(f"{described(notifier)} returned a coroutine, so nobody was told; await it")


def _notice(gate: Promise, n: int) -> Notice:
    shown: dict[str, Any] = decode(gate.input or JsonText("{}"))
    policy = shown.get("policy") or {}
    plan = shown["plan"]
    wanted = shown.get("wants") or {}
    choices = {"choices": wanted["enum"]} if "question" in shown and "enum" in wanted else {}
    to = policy.get("to")
    escalate = policy.get("escalate")
    if escalate and n:
        after = plan["tell_at"][n] - plan["tell_at"][0]
        to = escalate["to"] if after >= round(escalate["after_s"] * 1000) else to
    return Notice(
        gate=gate.id,
        code=code_of(gate.id),
        run=gate.run_id,
        kind=shown.get("kind", "approval"),
        tool=shown["tool"],
        summary=shown["summary"],
        shown={k: shown[k] for k in ("arguments", "question") if k in shown} | choices,
        digest=shown["digest"],
        to=to,
        expires_at=plan["expires_at"],
        reminder=n,
    )


def webhook(url: str, *, secret: Secret[str] | str | None = None) -> Notifier:
    """Return a notifier that posts each `Notice` as JSON, signed as Standard Webhooks are.

    The headers ``webhook-id`` (the same at every attempt), ``webhook-timestamp`` and
    ``webhook-signature`` let the receiver verify it with any library of Standard Webhooks, and
    drop what comes twice. An answer other than 2xx is tried again.

    Args:
        url: Where to, ``https://…``; ``http://`` for a loopback address only. It has no password
            in it, and is written as it is sent: without spaces, other letters as ``%C3%BC``.
        secret: The signing key: ``whsec_`` and base64, or any text. Not signed, without one.

    Example:
        >>> notify = webhook("https://example.org/gates", secret=Secret("HOOK_SECRET"))
    """
    if problem := _problem_in(str(url)):
        raise Misuse(f"webhook(…): {problem}")
    if secret == "":
        raise Misuse("webhook(secret=''): leave it out, or give the key that the receiver has")

    def post(notice: Notice) -> None:
        body = _body(notice)
        id_ = f"{notice.code}.{notice.reminder}"
        headers = {"content-type": "application/json", **_signed(secret, id_, body)}
        request = Request(url, data=body, headers=headers, method="POST")  # noqa: S310 - https
        with _opener().open(request, timeout=_TIMEOUT_S):
            pass

    return post


def _problem_in(url: str) -> str | None:
    """Say why an address would never be reached; None for a good one. It may hold a password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        return f"the address cannot be read: {error}"
    is_loopback = parts.hostname in ("127.0.0.1", "localhost", "::1")
    is_good = parts.scheme == "https" or (parts.scheme == "http" and is_loopback)
    if not parts.hostname or not is_good:
        return f"{url!r:.200} is no address that begins with https://"
    if "@" in parts.netloc:
        return "the address has a user in it; sign with secret= in its place"
    if not url.isascii() or not url.isprintable() or " " in url:
        return f"{url!r:.200} has letters that no address has; write them as %20, %C3%BC and so on"
    return None


def _body(notice: Notice) -> bytes:
    """Return a notice as JSON that any receiver reads: a model's arguments may hold anything."""
    told = {"type": f"gate.{notice.kind}", "data": _sayable(asdict(notice))}
    return json.dumps(told, separators=(",", ":"), allow_nan=False).encode()


def _sayable(value: Any) -> Any:
    """Return JSON without the numbers that are none, which are said as text."""
    if isinstance(value, dict):
        return {str(name): _sayable(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_sayable(each) for each in value]
    is_plain = value is None or isinstance(value, str | int)
    is_number = isinstance(value, float) and math.isfinite(value)
    return value if is_plain or is_number else str(value)


class _NoRedirect(HTTPRedirectHandler):
    """Follows no redirect: what is signed goes where it was meant to go."""

    def redirect_request(self, *_: Any) -> None:
        """Refuse."""


@cache
def _opener() -> OpenerDirector:
    """Return what opens addresses; made at the first use, since it reads the proxies there are."""
    return build_opener(_NoRedirect)


def _signed(secret: Secret[str] | str | None, id_: str, body: bytes) -> Mapping[str, str]:
    """Return the headers of Standard Webhooks for a body."""
    now = str(int(time.time()))
    headers = {"webhook-id": id_, "webhook-timestamp": now}
    if secret is None:
        return headers
    key = secret.reveal() if isinstance(secret, Secret) else secret
    signed = hmac.digest(_key(key), f"{id_}.{now}.".encode() + body, hashlib.sha256)
    return headers | {"webhook-signature": f"v1,{b64encode(signed).decode()}"}


def _key(secret: str) -> bytes:
    if secret.startswith("whsec_"):
        try:
            return b64decode(secret.removeprefix("whsec_"), validate=True)
        except NotBase64:
            raise Misuse("the secret of a webhook begins with whsec_ and is no base64") from None
    return secret.encode()
