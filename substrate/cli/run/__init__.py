"""Commands that drive runs: `run`, `resume`, `worker`.

What it keeps true: a signal gives all back; what is said of a run is what its rows say; the exit
code tells how the run stands.
"""
