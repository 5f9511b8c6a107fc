"""Commands that act on a run, and need no worker: signal, say, cancel, discard, approve, rules.

What it keeps true: a value that nobody would take is refused at the sender; a decision is made for
what was shown, and who decides second is told what stands.
"""
