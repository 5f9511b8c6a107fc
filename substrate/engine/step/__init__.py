"""One checkpointed call: what is called, its attempts, its outcome, and what makes up for it.

What it keeps true: an intent is committed before a call that must not be made twice; a call that
may have happened is never made again silently; an outcome is recorded once. `Context` makes steps;
a run's end closes and undoes them.
"""
