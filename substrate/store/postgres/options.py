"""The options of a Postgres URL, tried before anything is connected to.

A wrong one is no outage: no waiting mends it. libpq looks at most of them before it connects,
and so it is asked, with a socket that is nowhere in the place of the server; those that are numbers
it reads later, or never says what is wrong with them.

Invariant: no value is quoted, since a password that is mistyped ends up as any of them.
"""

import re
from collections.abc import Mapping
from typing import Any

from psycopg import pq

from substrate.values.errors import BadDatabaseUrl
from substrate.values.near import did_you_mean

_NOWHERE = "/nonexistent-ostinato"
_ONE_HOST = {"hostaddr", "host", "port"}
_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,9}\s*")
_NUMBERS = frozenset(
    {
        "connect_timeout",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "tcp_user_timeout",
    }
)
_PORT = re.compile(r"\s*([1-9][0-9]{0,4})?\s*")
_WORDS = {
    "sslmode": "disable, allow, prefer, require, verify-ca or verify-full",
    "channel_binding": "disable, prefer or require",
    "gssencmode": "disable, prefer or require",
    "sslnegotiation": "postgres or direct",
    "target_session_attrs": "any, read-write, read-only, primary, standby or prefer-standby",
    "load_balance_hosts": "disable or random",
    "ssl_min_protocol_version": "TLSv1.2 or TLSv1.3",
    "ssl_max_protocol_version": "TLSv1.2 or TLSv1.3",
}


def check_options(params: Mapping[str, Any], shown: str) -> None:
    """Raise `BadDatabaseUrl` for an option whose value none can be; it is named, and not quoted."""
    for name, value in params.items():
        if name in _NUMBERS and not _WHOLE.fullmatch(str(value)):
            raise _wrong(name, "a whole number", shown)
        if name == "port" and not all(map(_is_port, str(value).split(","))):
            raise _wrong(name, "a number from 1 to 65535", shown)
    if refused := _refused(params):
        raise _wrong(refused, _WORDS.get(refused, "what PostgreSQL's manual lists for it"), shown)


def meant_option(url: str) -> str:
    """Return which option of libpq was meant by a name that it does not know; "" where none was.

    Only a name that is nearly one of these is told: any other may be a piece of a password.
    """
    known = [each.keyword.decode() for each in pq.Conninfo.get_defaults()]
    names = (each.partition("=")[0] for each in url.partition("?")[2].split("&"))
    near = (did_you_mean(each, known) for each in names if each not in known)
    return next(filter(None, near), "")


def _is_port(text: str) -> bool:
    """Whether it is a port; libpq takes none at all for its own."""
    found = _PORT.fullmatch(text)
    return found is not None and int(found[1] or 1) < 65536


def _refused(params: Mapping[str, Any]) -> str | None:
    """Return the option that libpq refuses before it connects; None where there is none."""
    tried = {name: str(value) for name, value in params.items() if name not in _ONE_HOST}
    conninfo = " ".join(f"{n}='{_escaped(v)}'" for n, v in (tried | {"host": _NOWHERE}).items())
    connection = pq.PGconn.connect_start(conninfo.encode())
    try:
        said = connection.error_message.decode(errors="replace")
    finally:
        connection.finish()
    if said.startswith("connection to server") or not said:
        return None
    # What it quotes is a value, which may be the name of another option, save where it quotes the
    # name: invalid "ssl_min_protocol_version" value: "…".
    plain = re.sub(r'"[^"]*"', "", re.sub(r'"(\w+)" value', r"\1 value", said))
    return next((name for name in params if re.search(rf"\b{name}\b", plain)), None)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")


def _wrong(name: str, words: str, shown: str) -> BadDatabaseUrl:
    return BadDatabaseUrl(
        f"the option {name!r} of {shown!r} is none of its values; write {words}, or leave it out"
    )
