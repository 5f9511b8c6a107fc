"""Passwords in database URLs, and how they stay out of messages and logs."""

import re

_LOGIN = re.compile(r"(?<=://)([^:/@]*):(.*)@")
_OPTION = re.compile(r"(password=)([^&\s]*)")


def hide_password(url: str) -> str:
    """Return the URL without its passwords, wherever a URL may hold one."""
    return _OPTION.sub(r"\1…", _LOGIN.sub(r"\1@", url))


def is_telling(message: str, url: str) -> bool:
    """Whether somebody else's message repeats a password of the URL."""
    secrets = [found.group(2) for found in (*_LOGIN.finditer(url), *_OPTION.finditer(url))]
    return any(secret and secret in message for secret in secrets)
