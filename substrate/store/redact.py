"""Database URLs: what of one may be told, and how the rest stays out of messages and logs.

A URL that was mistyped has its password anywhere, so what cannot be understood is not quoted:
neither whole nor in part. Of one that is understood, names are told: its hosts, ports, database and
user, each where it looks like a name, which what a generator made for a password does not.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote

from substrate.values.errors import BadDatabaseUrl

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
        if found is None or not all(map(_is_host, hosts)) or "\0" in unquote(url):
            raise BadDatabaseUrl(
                f"the Postgres URL ({len(url)} characters) names no host and port that can be; "
                + _CURE
            )
        database, options = found["database"] or "", found["options"] or ""
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
        """Return somebody else's message without what is not told of the URL."""
        for secret in sorted(self._secrets(), key=len, reverse=True):
            message = message.replace(secret, "…")
        return message

    def _secrets(self) -> Iterator[str]:
        """Yield what no message may repeat, as it is written and as it is meant."""
        hidden = [value for name, value in self.options if "pass" in name or "secret" in name]
        others = [value for _, value in self.options if value not in hidden]
        hosts = [re.sub(r":[0-9]*$", "", each) for each in self.hosts]
        names = [self.user, self.database, *self.hosts, *hosts, *others]
        told = {unquote(each) for each in names if _is_place(unquote(each))}
        for part in (self.password, *hidden, *names):
            for each in {part, unquote(part), repr(unquote(part))[1:-1]}:
                if len(each) >= _SHORTEST and each not in told:
                    yield each


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
