"""Skills: packaged sets of tools, each a folder with a `SKILL.md` and a `tools.py`."""
