"""Messages as turns: two of one role that follow each other are one. Pure."""

from collections.abc import Iterable

from substrate.models.parts import Json


def joined(messages: Iterable[dict[str, Json]], parts: str) -> list[dict[str, Json]]:
    """Return messages with those of one role that follow each other joined.

    Results and what the user says after them are both the user's, to providers without a role for
    tools. `parts` is the name of what a message has.
    """
    made: list[dict[str, Json]] = []
    for message in messages:
        if made and message["role"] == made[-1]["role"]:
            made[-1] = {**made[-1], parts: [*made[-1][parts], *message[parts]]}
        else:
            made.append(message)
    return made
