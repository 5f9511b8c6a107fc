"""One checkpointed call: its function, its attempts, its outcome and its undo.

What the package keeps true:

- A call that must not be made twice has an intent, which is committed before the call.
- A call that may have happened is never silently made again.
- An outcome is recorded once.

`Context` creates steps; the end of a run closes and undoes them.
"""
