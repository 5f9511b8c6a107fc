"""What a durable function can do that outlives its process: `Context` and its operations.

What it keeps true: an operation takes its key when it is called, not when it is awaited; it starts
once; whoever waits for several waits for all of them, or takes the one that was recorded first.
Functions see `Context`, `Pending` and `Child`; nothing below imports this wing.
"""
