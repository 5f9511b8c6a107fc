"""Skills: packaged sets of tools, each a folder with a `SKILL.md` and a `tools.py`.

A project may have a folder ``skills`` of its own: its skills stand beside these in one package.
"""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
