"""One claim on one run: its journal, its writes under the fence, and how it is let go.

What it keeps true: nothing is written but under the fence, and nothing after an interrupt; the
first interrupt wins; a run that waits loses no wake-up; callers go on after COMMIT. Steps and
contexts work through it, a worker holds one for each run that it drives.
"""
