"""Durable functions: their names and versions, and how their arguments and results are recorded.

- Arguments and results are recorded as JSON that decodes to equal values.
- A call that does not fit the function's signature is refused before anything is recorded.
- A worker that knows a function also knows the durable functions that this one can call.

Nothing here knows of runs.
"""
