"""`Context` and its operations: all that a durable function can do and that outlives its process.

- An operation takes its key when it is called, not when it is awaited, and it starts once.
- To wait for several operations means to wait for all of them, or for the first one recorded.
- Durable functions use `Context`, `Pending` and `Child`; no wing below imports this one.
"""
