"""A prompt in versions: each run is given one, by a hash of its id.

>>> prompt = Prompt.versions({"v1": "Be brief.", "v2": "Be kind."}, split={"v2": 0.1})
>>> prompt.choose("analyst/42") == prompt.choose("analyst/42")
True

Invariants: pure; the same id has the same version in any process, as long as versions and split
stay the same. What a run was given is recorded, so changing them moves no run that has begun.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from inspect import iscoroutine
from typing import Any

from substrate.agent.task import Task
from substrate.engine.function.place import in_place
from substrate.models.messages import Json
from substrate.values.errors import Misuse
from substrate.values.ids import check_name
from substrate.values.number import is_number

Text = str | Callable[[Task], str]
"""A system prompt, or a function of the task that gives it."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Versions of a system prompt, and which share of the runs is given each. See `versions`."""

    #: The versions by their names.
    texts: Mapping[str, Text]
    #: Which share of the runs each is given; together 1.
    shares: Mapping[str, float]
    #: The prompt's.
    name: str = "prompt"

    @classmethod
    def versions(
        cls,
        texts: Mapping[str, Text],
        split: Mapping[str, float] | None = None,
        *,
        name: str = "prompt",
    ) -> "Prompt":
        """Return a prompt in versions; each run is given one, by a hash of its id.

        Args:
            texts: The versions by their names: texts, or functions of the task.
            split: Which share of the runs some are given, from 0 to 1; the others divide what is
                left evenly.
            name: The prompt's. ``compare NAME`` compares its versions; prompts of other
                names are split independently.

        Raises:
            Misuse: the split names a version that there is not, or does not make a whole.

        Example:
            >>> prompt = Prompt.versions({"v1": "Be brief.", "v2": "Be kind."}, split={"v2": 0.1})
            >>> prompt.choose("order/42") == prompt.choose("order/42")
            True
        """
        given_texts: object = texts
        if not isinstance(given_texts, Mapping) or not texts:
            raise Misuse(
                f'{texts!r:.200} holds no version of a prompt; write Prompt.versions({{"v1": "…"}})'
            )
        for each in (name, *texts):
            check_name(each)
        for version, text in texts.items():
            if not isinstance(text, str) and not callable(text):
                raise Misuse(f"the version {version!r} is {text!r:.200}; give text, or a function")
        given = _shares(split, texts)
        others = [version for version in texts if version not in given]
        left = 1 - sum(given.values())
        if left < -1e-9 or (not others and left > 1e-9):
            raise Misuse(
                f"split={given!r} makes {1 - left:g} together; it must make 1: leave a version "
                "out of it, which takes what is left"
            )
        shares = given | {version: max(left, 0) / len(others) for version in others}
        return cls(dict(texts), {version: shares[version] for version in texts}, name)

    def choose(self, run_id: str) -> str:
        """Return the version that a run is given. Another prompt's choice is independent of it.

        Args:
            run_id: The run's id.
        """
        drawn = blake2b(f"{self.name}\n{run_id}".encode(), digest_size=8).digest()
        point, last = int.from_bytes(drawn) / 2**64, ""
        for version, share in self.shares.items():
            last = version if share else last
            if share and point < share:
                return version
            point -= share
        return last  # where the shares make a hair less than 1


def _shares(split: object, texts: Mapping[str, Text]) -> dict[str, float]:
    """Return what a split gives, as floats. Raises `Misuse` for what is none of these versions."""
    if split is None:
        return {}
    if not isinstance(split, Mapping):
        raise Misuse(f'split={split!r:.200} is no split; write split={{"v2": 0.1}}')
    for version, share in split.items():
        if version not in texts:
            raise Misuse(f"split names {version!r}; there are: {', '.join(texts)}")
        if not is_number(share) or not 0 <= share <= 1:
            raise Misuse(f"split={dict(split)!r:.200}: a share is a number from 0 to 1; write 0.1")
    return {version: float(share) for version, share in split.items()}


def opening(prompt: Prompt | Text, task: Task, run_id: str) -> dict[str, Json]:
    """Return what a row keeps of the system prompt that a run is given; its version, if any."""
    if not isinstance(prompt, Prompt):
        return {"system": rendered(prompt, task)}
    version = prompt.choose(run_id)
    system = rendered(prompt.texts[version], task)
    return {"system": system, "prompt": prompt.name, "version": version}


def rendered(text: Text, task: Task) -> str:
    """Return a system prompt as it is for a task. Raises `Misuse` where that is no text."""
    said: Any = text(task) if callable(text) else text
    if not isinstance(said, str):
        if iscoroutine(said):
            said.close()
            said = "a coroutine"
        raise Misuse(f"it gave {said!r:.200}{in_place(text)}; give text")
    return said
