"""The models that answer: their keys, SDKs, names and prices, and, if wanted, a word of each."""

import os
import time
from collections.abc import AsyncIterator, Iterable, Iterator

from substrate.cli import format as wording
from substrate.cli.doctor.finding import Finding, fail, ok, warn
from substrate.cli.secrecy import hidden
from substrate.installed import how_to_add
from substrate.models import prices
from substrate.models.messages import UserMessage
from substrate.models.model import PROVIDERS, SCRIPTED, Model
from substrate.models.panel import Answering, models_of
from substrate.values.errors import ModelError
from substrate.values.near import did_you_mean

_SIGNS = {"sk-ant-": "anthropic", "gsk_": "groq", "AIza": "google"}
"""What keys of a provider begin with, as far as that is known."""

_QUESTION = "Answer with the one word: ready"


def look_at_models(answering: Answering, agent: str = "") -> Iterator[Finding]:
    """Say of the model, of who stands in for it and of each in its fallback, how it is.

    The members of a panel, and its judge, are looked at one by one. `agent` is whose it is, where
    it is that of another agent of the fork.
    """
    of = f" of {agent}" if agent else ""
    for model in models_of(answering):
        yield from _look(model, f"model{of}")
        for each in model.successors:
            if isinstance(each.model, Model):
                yield from _look(each.model, f"fallback{of}", is_first=False)


def look_at_other_keys(models: Iterable[Answering]) -> Iterator[Finding]:
    """Say which keys are set that no model of the fork needs."""
    every = [each for model in models for each in _chain(model)]
    ours = {
        key for each in every if each.provider in PROVIDERS for key in PROVIDERS[each.provider].keys
    } | {each.key for each in every}
    set_ = [key for known in PROVIDERS.values() for key in known.keys if os.environ.get(key)]
    if spare := sorted(set(set_) - ours):
        yield ok("key", f"{', '.join(spare)}: set, for no model of this agent")


async def call_models(models: Iterable[Answering]) -> AsyncIterator[Finding]:
    """Ask each model that can be asked for one word, once, which costs what it costs."""
    every = {each.place: each for model in models for each in _chain(model)}
    for each in every.values():
        if not each.missing_key and not each.missing_extra:
            yield await _call(each)


def _chain(answering: Answering) -> Iterator[Model]:
    """Yield each model, who stands in for it while its key is missing, and its fallback."""
    for model in models_of(answering):
        yield model
        if model.available() is not model:
            yield model.available()
        for each in model.successors:
            if isinstance(each.model, Model):
                yield each.model


def _look(model: Model, role: str, *, is_first: bool = True) -> Iterator[Finding]:
    if model.provider in SCRIPTED:
        yield ok(role, f"{model.id}: a script answers, which needs no key and costs nothing")
        return
    if (extra := model.missing_extra) is not None:
        said = f"{model.id} is asked through an SDK that is not installed"
        is_asked = is_first and not (model.missing_key and model.offline)
        yield (fail if is_asked else warn)(f"sdk {extra}", said, how_to_add(extra))
    else:
        yield ok(f"sdk {PROVIDERS[model.provider].sdk}", "installed")
    yield _key(model, is_first=is_first)
    yield _price(model, role)


def _key(model: Model, *, is_first: bool) -> Finding:
    missing = model.missing_key
    if missing is None:
        names = (model.key,) if model.key else PROVIDERS[model.provider].keys
        found = next((name for name in names if name and os.environ.get(name)), None)
        if found is None:
            return ok("key", f"{model.id} is asked at {_address(model)}, without a key")
        return _set_key(model, found, os.environ[found])
    remedy = f"export {missing}=…, or write it into .env"
    if not is_first:
        return warn("key", f"{missing} is not set: {model.id} is left out of the fallback", remedy)
    if model.offline is not None:
        said = f"{missing} is not set: {model.offline.id} answers in place of {model.id}"
        return warn("key", said, remedy)
    return fail("key", f"{missing} is not set, and {model.id} has no offline= in its place", remedy)


def _set_key(model: Model, name: str, key: str) -> Finding:
    owner = next((provider for sign, provider in _SIGNS.items() if key.startswith(sign)), None)
    if key != key.strip() or key[:1] in "\"'":
        said = f"{name} has a space or a quote at its end or beginning"
        return warn("key", said, "set the key alone: what stands around it is sent along")
    if owner is not None and owner != model.provider and model.base_url is None:
        said = f"{name} holds what looks like a key of {owner}"
        return warn("key", said, f"set {name} to a key of {model.provider}")
    return ok("key", f"{name} is set, for {model.id}")


def _price(model: Model, role: str) -> Finding:
    if model.price is not None:
        said = " and ".join(f"${each:g}" for each in model.price)
        return ok(role, f"{model.id}: {said} for a million tokens read and written, as you say")
    if model.base_url is not None or model.provider == "openai-chat":
        known = None
    else:
        known = prices.per_million(model.provider, model.name)
    if known is not None:
        said = " and ".join(f"${each.normalize():f}" for each in known)
        return ok(role, f"{model.id}: {said} for a million tokens read and written")
    names = prices.known_models(model.provider)
    near = did_you_mean(model.name, names) if model.base_url is None else ""
    return warn(
        role,
        f"{model.id}: the price list does not know it{near}; its cost is unknown, which no "
        "budget(usd=…) can hold",
        "mend the name, or give its price for a million tokens read and written: price=(3, 15)",
    )


async def _call(model: Model) -> Finding:
    request = model.request("You are being tested.", [UserMessage.of(_QUESTION)])
    began = time.monotonic()
    try:
        reply = await model.answer(request)
    except ModelError as error:
        return fail("call", hidden(f"{model.id}: {type(error).__name__}: {error}"))
    took = wording.duration(round((time.monotonic() - began) * 1000))
    used = f"{wording.tokens(reply.usage)}, {wording.money(reply.usage.cost_usd)}"
    return ok("call", f"{model.id} said {wording.short(reply.text, 40)!r}, {took}, {used}")


def _address(model: Model) -> str:
    return model.place.partition(" at ")[2] or "its own address"
