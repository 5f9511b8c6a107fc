"""Database URLs: what of one may be told, and how the rest stays out of messages and logs.

A URL that was mistyped has its password anywhere, so what cannot be understood is not quoted:
neither whole nor in part. Of one that is understood, names are told: its hosts, ports, database and
user, each where it looks like a name, which what a generator made for a password does not. A server
may repeat what it was sent, so in others' messages all passwords that it may be are hidden.

It stands with the stores since they alone open what a URL names: commands and skills ask here.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote

from substrate.store.passwords import passwords_outside
from substrate.values.errors import BadDatabaseUrl
from substrate.values.mask import MASK, Mask

FORMS = "write sqlite:///runs.db, sqlite:////absolute/runs.db, or postgresql://user@host/database"
_CURE = (
    "write postgresql://user:password@host:5432/database, and in a user, a password or a name "
    "%40 for @, %2F for / and %3A for :"
)

_POSTGRES = re.compile(
    r"""postgres(?:ql)?://
        (?: (?P<user>[^:@/]*) (?: : (?P<password>[^@/]*) )? @ )?
        (?P<hosts>[^/?]*)
        (?: / (?P<database>[^?]*) )?
        (?: \? (?P<options>.*) )?""",
    re.VERBOSE | re.DOTALL,
)
"""As libpq reads it: a password may hold ``:``, ``?`` and ``#``, but neither ``/`` nor ``@``."""

_HOST = re.compile(
    r"(\[[0-9A-Fa-f:.]+(%[\w.-]+)?\]|([\w.-]|%[0-9A-Fa-f]{2})*)(:(?P<port>[0-9]{0,5}))?", re.ASCII
)
_NAME = re.compile(r"[a-z0-9_][a-z0-9_.$-]{0,62}")
_PLACE = re.compile(r"[a-z0-9_.:/\[\]-]*|/[\w./-]*", re.ASCII)
_OTHERS = re.compile(
    r"(?:jdbc:)?(mysql|mariadb|mssql|oracle|mongodb|redis|duckdb|file|https?|"
    r"postgres(?:ql)?\+\w{1,12}|sqlite\+\w{1,12})://",
    re.IGNORECASE,
)
_SHORTEST = 4
"""What is shorter stands in any message: hiding it tells where it stands, and spoils the rest."""


@dataclass(frozen=True, slots=True)
class PostgresUrl:
    """A Postgres URL that is understood, in its parts as they are written."""

    user: str
    password: str
    hosts: tuple[str, ...]
    database: str
    options: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, url: str) -> "PostgresUrl":
        """Take a URL apart. Raises `BadDatabaseUrl`, which quotes nothing of it."""
        found = _POSTGRES.fullmatch(url)
        hosts = tuple(found["hosts"].split(",")) if found else ()
        # libpq would cut a URL at a NUL, and connect to what stands before it.
        if found is None or not all(map(_is_host, hosts)) or "\0" in unquote(url):
            raise BadDatabaseUrl(
                f"the Postgres URL ({len(url)} characters) names no host and port that can be; "
                + _CURE
            )
        database, options = found["database"] or "", found["options"] or ""
        # A "/" in a password ends the hosts for libpq: what follows is the rest of the login.
        if re.search(r"[@:/]", database):
            raise BadDatabaseUrl(
                f"the Postgres URL ({len(url)} characters) has a login where the database's name "
                f"belongs; {_CURE}"
            )
        pairs = tuple(each.partition("=")[::2] for each in options.split("&") if each)
        return cls(found["user"] or "", found["password"] or "", hosts, database, pairs)

    @property
    def shown(self) -> str:
        """What is told of it."""
        user = f"{self.user}@" if _NAME.fullmatch(self.user) else ""
        hosts = ",".join(each if _is_place(each) else "…" for each in self.hosts)
        name = self.database if _NAME.fullmatch(self.database) else "…" * bool(self.database)
        socket = next((unquote(value) for name, value in self.options if name == "host"), "")
        at = f"?host={socket}" if socket and _is_place(socket) else ""
        return f"postgresql://{user}{hosts}{f'/{name}' * bool(name)}{at}"

    def hide_in(self, message: str) -> str:
        """Return somebody else's message without what is not told of the URL, nor a password.

        In whatever spelling (see `Mask`); what is shorter than that knows, as it is written.
        """
        secrets, shown = self._secrets()
        # A mask knows no capitals: a user like the host would take the host out of the message.
        lower = {each.lower() for each in shown}
        message = _mask(frozenset(each for each in secrets if each.lower() not in lower)).hide(
            message
        )
        # The longest first: a shorter one may be a part of it, and would leave the rest.
        for secret in sorted(secrets, key=len, reverse=True):
            message = message.replace(secret, MASK)
        return message

    def passwords(self) -> Iterator[str]:
        """Yield the passwords that a connection may use, as written and as meant, in no order."""
        for each in (self.password, *self._hidden_options()):
            yield from (each, unquote(each))
        yield from passwords_outside({name: unquote(value) for name, value in self.options})

    def _hidden_options(self) -> list[str]:
        # `passfile` names a file, which a message has to tell; `passwords_outside` reads it.
        named = [(name, value) for name, value in self.options if name != "passfile"]
        return [value for name, value in named if "pass" in name or "secret" in name]

    def _secrets(self) -> tuple[set[str], set[str]]:
        """Return what no message may repeat, as written and as meant, and what it may."""
        hidden = self._hidden_options()
        others = [value for _, value in self.options if value not in hidden]
        hosts = [re.sub(r":[0-9]*$", "", each) for each in self.hosts]
        names = [self.user, self.database, *self.hosts, *hosts, *others]
        shown = {unquote(each) for each in names if _is_place(unquote(each))}
        # A name is hidden too, unless it looks like one: a mistyped URL has a password there.
        parts = (*self.passwords(), *names)
        forms = {
            form for each in parts for form in (each, unquote(each), repr(unquote(each))[1:-1])
        }
        return {each for each in forms if len(each) >= _SHORTEST and each not in shown}, shown


@lru_cache(maxsize=16)
def _mask(secrets: frozenset[str]) -> Mask:
    return Mask(secrets)


def shown_url(url: str) -> str:
    """Return what is told of a URL that was understood: of SQLite's, all of it."""
    return url if url.startswith("sqlite:") else PostgresUrl.read(url).shown


def refused(url: str) -> BadDatabaseUrl:
    """Return the error for a URL of which nothing is understood."""
    if found := _OTHERS.match(url):
        return BadDatabaseUrl(f"{found[1].lower()}:// is not served; {FORMS}")
    scheme = "" if "://" in url else ", without a scheme such as sqlite://"
    return BadDatabaseUrl(
        f"this is not a database URL ({len(url)} characters{scheme}); it is not shown, since it "
        f"may hold a password; {FORMS}"
    )


def _is_place(text: str) -> bool:
    """Whether a text is a host, its port, a folder of sockets, or a name, by its look."""
    return _PLACE.fullmatch(text) is not None


def _is_host(written: str) -> bool:
    """Whether this can be a host with its port."""
    found = _HOST.fullmatch(written)
    return found is not None and int(found["port"] or 0) < 65536
