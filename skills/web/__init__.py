"""The web for a model: read a page, and nothing that is not public."""

from skills.web.tools import fetch_url

__all__ = ["fetch_url"]
