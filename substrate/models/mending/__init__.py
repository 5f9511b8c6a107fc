"""A transcript as it can be sent: what a provider would refuse in a request, mended.

What models write, and people say, cannot always be said again: half an emoji, a call whose result
was never given, another model's thoughts, a schema that one provider knows and another does not. A
provider refuses the whole request for it, and would refuse it each time the run is resumed. The
journal keeps what was said; only what is sent is mended.

`rules` is the table of all that is mended, `takes` says what each model takes; `mended` does it,
with the parts of a message in `sound`, `media` and `reasoning`, their order in `order`, and tools
in `names` and `schemas`.

Invariants: pure, so it is the same on every replay; of a recorded request it can be told what was
mended in it. What is mended needs no more mending. A request to which nothing is wrong comes back
as it is. The messages at the beginning of a longer transcript are mended as they were, so that a
provider finds what it has cached.
"""
