"""Your agent: `hooks.py` is the file to edit, `loop.py` the loop that it runs in."""

import sys

if sys.argv[0] == "-m":  # as `python -m agent`: what lies in this folder comes last of all,
    sys.path.append(sys.path.pop(0))  # so that a json.py or an openai.py in it hides no other

from pkgutil import extend_path

import skills

# A folder skills/ of your own stands beside the kit's: both are one package, whichever is found
# first, and whether or not yours has an __init__.py.
skills.__path__ = extend_path(getattr(skills, "__path__", []), "skills")
