"""Your agent: `hooks.py` is the file to edit, `loop.py` the loop that it runs in."""
