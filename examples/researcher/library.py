"""A small library: what each shelf has on an animal, with its source."""

SHELVES = {
    "owls/food": ("Two owls with young eat four thousand voles a year.", "Field notes, 1987"),
    "owls/nests": ("They nest in a dark box of a metre, away from the weather.", "Box book"),
    "owls/legends": ("Nailed to a barn door, an owl was to keep lightning away.", "Village tales"),
    "swifts/food": (
        "They eat in the air alone: flies, and spiders that drift.",
        "Field notes, 1991",
    ),
    "swifts/nests": ("They nest under roofs, and need a free fall of five metres.", "Box book"),
}


def sources() -> set[str]:
    """Return all the sources that there are."""
    return {source for _, source in SHELVES.values()}


def read(topic: str) -> dict[str, str]:
    """Return what a shelf has, with its source. Raises `LookupError` where there is none."""
    if topic not in SHELVES:
        raise LookupError(f"no shelf {topic!r}; there are {', '.join(SHELVES)}")
    text, source = SHELVES[topic]
    return {"part": topic, "text": text, "source": source}
