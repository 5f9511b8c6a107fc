"""Commands that act on a run: `signal`, `cancel`, `discard`.

What it keeps true: a value that nobody would take is refused at the sender.
"""
