"""What a model call was asked, as its row keeps it: what the one before was asked, and what came.

The row's input is ``{frame, prev, add, digest}``:

==========  =====================================================================================
`frame`     the hash of a blob with the rest of the request: system prompt, tools, model,
            parameters; once a tree
`prev`      the key of the model row whose request this one goes on from; null where it begins
            anew: at first, and after a summary
`add`       the messages after those of `prev`, each by the row that holds it, or as it is
`digest`    a hash of (digest of `prev`, frame, add)
==========  =====================================================================================

An entry of `add` is a key (a reply, a warning, what people said, the task in ``prompt.0``),
``{"results": [keys of tool calls]}``, ``{"problems": key}`` for what was wrong with a reply,
``{"task", "head", "summary"}`` for what stands in the place of all that was summed up, ``{"head",
"summary"}`` for that of what was cut, or a message's own JSON. `history.request.request_of` reads
them back.

Invariants: a message that is not the very one that a row gave, such as a copy with other parts, is
written as it is; a turn costs the same however long the conversation is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from substrate.agent.history.keys import HEARD, PROMPT, name_in
from substrate.engine.context.context import Context
from substrate.models.messages import Json, Message, Reply
from substrate.store.blobs import make_blob
from substrate.values.codec import encode, fingerprint
from substrate.values.ids import RunId
from substrate.values.records import Blob

if TYPE_CHECKING:
    from substrate.agent.end import End
    from substrate.agent.transcript import Transcript

Messages = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A model call that was made."""

    #: The key of its row.
    key: str
    #: The digest of what it was asked.
    digest: str
    #: The messages that it was asked.
    messages: Messages


class Chain:
    """What one loop has asked and recorded so far, by which the next row is written.

    It is a notebook beside a transcript, shared by all that come from it; a replay fills it again.
    It decides nothing.
    """

    __slots__ = (
        "_asked_on",
        "_entries",
        "_frame",
        "_last",
        "_results",
        "ended_at",
        "hears",
        "task_key",
        "was_cut_short",
    )

    def __init__(self) -> None:
        #: The key of the row that holds the task, if one does.
        self.task_key: str | None = None
        #: Why the loop was cut short, once last words are recorded.
        self.ended_at: End | None = None
        #: Whether the loop hears what people say after each turn.
        self.hears: bool = False
        #: Whether it had last words.
        self.was_cut_short: bool = False
        self._last: _Asked | None = None
        # By identity; the message is kept with it, so that no other can get the same.
        self._entries: dict[int, tuple[Message, Json]] = {}
        # The keys of results, also where a row does not refer to their message by them.
        self._results: dict[int, tuple[Message, tuple[str, ...]]] = {}
        self._asked_on: tuple[Reply, Transcript] | None = None
        self._frame: tuple[dict[str, Json], Blob] | None = None

    @classmethod
    def begin(cls, ctx: Context) -> "Chain":
        """Return a new one, which `of` finds again."""
        chain = ctx.notes[cls] = cls()
        return chain

    @classmethod
    def of(cls, ctx: Context) -> "Chain":
        """Return the one that was begun in this context, else one that nobody reads."""
        found = ctx.notes.get(cls)
        return found if isinstance(found, cls) else cls()

    def begin_message(self, task_key: str | None) -> None:
        """Go on with the next task of the same conversation, which a row holds, if any."""
        self.task_key = self.task_key if task_key is None else task_key
        self.ended_at, self.hears, self.was_cut_short = None, False, False

    def resume(self, key: str, digest: str, messages: Messages) -> None:
        """Go on from a model call of an earlier generation, whose row stays."""
        self._last = _Asked(key, digest, messages)

    @property
    def last(self) -> tuple[str, str, int] | None:
        """The last model call: its key, the digest of what it was asked, and how many messages."""
        last = self._last
        return None if last is None else (last.key, last.digest, len(last.messages))

    def note(self, message: Message, entry: Json) -> None:
        """Note how a row refers to a message."""
        self._entries[id(message)] = (message, entry)

    def has_heard(self, message: Message) -> bool:
        """Whether people have said this message."""
        key = self.key_of(message)
        return key is not None and name_in(key) == HEARD

    def is_of_kit(self, message: Message) -> bool:
        """Whether the loop has made up this message: a warning, what is wrong with an answer."""
        _, entry = self._entries.get(id(message), (None, None))
        if isinstance(entry, str):
            return name_in(entry) not in (HEARD, PROMPT)
        return entry is not None

    def key_of(self, message: Message) -> str | None:
        """Return the key of the row that holds a message, if one does."""
        _, entry = self._entries.get(id(message), (None, None))
        return entry if isinstance(entry, str) else None

    def note_results(self, message: Message, keys: Sequence[str]) -> None:
        """Note in which rows the results of a message stand that is written as it is."""
        self._results[id(message)] = (message, tuple(keys))

    def results_of(self, message: Message) -> Sequence[str]:
        """Return the keys of the rows in which a message's results stand; none if unknown."""
        _, entry = self._entries.get(id(message), (None, None))
        if isinstance(entry, dict) and "results" in entry:
            return tuple(map(str, entry["results"]))
        return self._results.get(id(message), (None, ()))[1]

    def note_correction(self, message: Message, reply: Reply) -> None:
        """Note that a message tells what is wrong with a reply, which the reply's row holds."""
        known = self._entries.get(id(reply))
        if known is not None:
            self.note(message, {"problems": known[1]})

    def note_asked(self, key: str, digest: str, messages: Messages) -> None:
        """Note what a model call was asked: the next one goes on from there."""
        if self._last is not None and not _goes_on(messages, self._last.messages):
            # What was before a summary is never sent again: its entries go, or a long conversation
            # would keep all of its messages in memory.
            kept = set(map(id, messages))
            self._entries = {k: each for k, each in self._entries.items() if k in kept}
            self._results = {k: each for k, each in self._results.items() if k in kept}
        self._last = _Asked(key, digest, messages)

    def note_reply(self, reply: Reply, transcript: "Transcript") -> None:
        """Note which transcript a reply answers: another than was asked, where that was too long.

        So ``transcript + reply`` goes on from what the model was really told.
        """
        self._asked_on = (reply, transcript)

    def asked_on(self, reply: Reply) -> "Transcript | None":
        """Return the transcript that a reply answers, if it is the last one."""
        if self._asked_on is None or self._asked_on[0] is not reply:
            return None
        return self._asked_on[1]

    def owns(self, asked: Mapping[str, Json]) -> bool:
        """Whether a model call's row is one of this loop: the next after the last that it knows."""
        if asked.get("prev") is not None:
            return self._last is not None and asked["prev"] == self._last.key
        first = next(iter(asked.get("add", ())), None)
        task = first.get("task") if isinstance(first, dict) else first
        return not isinstance(task, str) or task == self.task_key

    def link(self, messages: Messages, frame: str) -> dict[str, Json]:
        """Return what a row keeps of a request with these messages and this frame."""
        last = self._last
        if last is not None and not _goes_on(messages, last.messages):
            last = None
        since = messages[len(last.messages) :] if last else messages
        add = [self._entry(message) for message in since]
        digest = fingerprint(last.digest if last else "", frame, add)
        return {"frame": frame, "prev": last.key if last else None, "add": add, "digest": digest}

    def frame(self, root_id: RunId, described: dict[str, Json]) -> Blob:
        """Return a frame as a blob: the last one, where it is the same."""
        if self._frame is None or self._frame[0] != described:
            self._frame = (described, make_blob(root_id, encode(described).encode()))
        return self._frame[1]

    def _entry(self, message: Message) -> Json:
        known = self._entries.get(id(message))
        return message.to_json() if known is None else known[1]


def _goes_on(messages: Messages, before: Messages) -> bool:
    """Whether messages begin with those before; by identity first, so this is quick."""
    return messages[: len(before)] == before
