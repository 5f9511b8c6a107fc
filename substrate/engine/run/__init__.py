"""One claim on one run: its journal, its writes under the fence, its waits and its release.

What the package keeps true:

- A run writes only under its fence, and writes nothing after an interrupt. The first interrupt
  wins.
- A waiting run loses no wake-up.
- A caller continues only after COMMIT.

Steps and contexts read and write through an `Execution`; a worker holds one for each run it drives.
"""
