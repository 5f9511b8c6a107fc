"""What was imported before this is left alone by the garbage collector, so that forks share it.

It is imported last by the process that others are forked from (`tests/processes.py`): a collection
in one of those would look at, and so copy, all that is there.
"""

import gc

gc.collect()
gc.freeze()
