"""A database URL, however it is mistyped, is told without its password, by whatever says it."""

import logging
import traceback
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from substrate import connect
from substrate.cli.invocation import Invocation
from substrate.cli.perform import perform
from substrate.store.connect import open_store
from substrate.store.database_url import PostgresUrl
from substrate.values.errors import BadDatabaseUrl, StoreError
from tests.fork import Fork

SECRET = "S3CRETpw-9xQ"
HERE = "127.0.0.1:1"
SLASHED = f"{SECRET[:6]}/{SECRET[6:]}"

MISTYPED = (
    f"postgresql:/user:{SECRET}@{HERE}/db",
    f"postgresql:user:{SECRET}@{HERE}/db",
    f"postgresql//u:{SECRET}@h/d",
    f"postgresql:///u:{SECRET}@h/d",
    f"postgresql:////u:{SECRET}@h/d",
    f"postgresql://h/u:{SECRET}@h/d",
    f"postgresql://h:5432:{SECRET}/d",
    f"user:{SECRET}@127.0.0.1/db",
    f"//user:{SECRET}@127.0.0.1/db",
    f"host=127.0.0.1 password = {SECRET}",
    f"host=127.0.0.1 password='a {SECRET}'",
    f"user=u password={SECRET}",
    f"password={SECRET}",
    f"postgresql://u:{SECRET}",
    f"postgresql://u:{SECRET}:{HERE}/db",
    f"postgresql://u:{SECRET}/127.0.0.1/db",
    f"postgresql://u:[{SECRET}]@{HERE}/db",
    f"postgresql://u:[{SECRET}@{HERE}/db",
    f"postgresql://u:p@{SECRET}@{HERE}/db",
    f"postgresql://u:{SECRET}@p@{HERE}/db",
    f"postgresql://u:p/{SECRET}@{HERE}/db",
    f"postgresql://u:{SECRET}/p@{HERE}/db",
    f"postgresql://u:p#{SECRET}@{HERE}/db",
    f"postgresql://u:p?{SECRET}@{HERE}/db",
    f"postgresql://u:p?x={SECRET}@{HERE}/db",
    f"postgresql://u:{SECRET}%zz@{HERE}/db",
    f"postgresql://u%3A{SECRET}@{HERE}/db",
    f"postgresql://u%3A{SECRET}%40{HERE}/db",
    f"postgresql://{SECRET}@{HERE}/db",
    f"postgresql://:{SECRET}@{HERE}/db",
    f"postgresql://u:{SECRET}@{HERE},127.0.0.1:2/db",
    f"postgresql://u:{SECRET}@127.0.0.1:port/db",
    f"postgresql://u:{SECRET}@127.0.0.1:99999/db",
    f"postgresql://u:{SECRET}@[::1/db",
    f"postgresql://u:p@127.0.0.1:{SECRET}/db",
    f"postgresql://u:{SECRET}@{HERE}/db?no_such_option=1",
    f"postgresql://u@{HERE}/db?{SECRET}",
    f"postgresql://u@{HERE}/db?{SECRET}=1",
    f"postgresql://u@{HERE}/db?passwrod={SECRET}",
    f"postgresql://u@{HERE}/db?password={SECRET}",
    f"postgresql://u@{HERE}/db?password={SECRET}&password={SECRET}",
    f"postgresql://u@{HERE}/db?sslmode={SECRET}",
    f"postgresql://u@{HERE}/db?connect_timeout={SECRET}",
    f"postgresql://u@{HERE}/db?sslpassword={SECRET}&sslkey=/x",
    f"postgresql://u@{HERE}/db?port={SECRET}",
    f"postgresql://u@{HERE}/db?hostaddr={SECRET}",
    f"postgresql://u@{HERE}/db?options=-c%20x.y={SECRET}",
    f"postgresql://u@{HERE}/db?target_session_attrs={SECRET}",
    f"postgresql://u@{HERE}/db?host=u:{SECRET}@h",
    f"postgresql://u@{HERE}/db?service={SECRET}",
    f"POSTGRESQL://u:{SECRET}@{HERE}/db",
    f" postgresql://u:{SECRET}@{HERE}/db",
    f"'postgresql://u:{SECRET}@{HERE}/db'",
    f"DATABASE_URL=postgresql://u:{SECRET}@{HERE}/db",
    f"postgresql+psycopg://u:{SECRET}@{HERE}/db",
    f"postgres+asyncpg://u:{SECRET}@{HERE}/db",
    f"jdbc:postgresql://{HERE}/db?user=u&password={SECRET}",
    f"postgressql://u:{SECRET}@{HERE}/db",
    f"psql postgresql://u:{SECRET}@{HERE}/db",
    f"mysql://u:{SECRET}@h/d",
    f"{SECRET}://u@h/d",
    f"{SECRET}:u@h/d",
    SECRET,
    f"postgresql://u:{quote(SLASHED, safe='')}@{HERE}/db",
    f"postgresql://u:{SLASHED}@{HERE}/db",
    f"postgresql://u:{SECRET}\n@{HERE}/db",
    f"postgresql://u:{SECRET}\x00@{HERE}/db",
    f"postgresql://u:{SECRET}%00@{HERE}/db",
    f"postgresql://ü:{SECRET}ü@{HERE}/db",
    f"sqlite://u:{SECRET}@x/y",
    f"sqlite://{SECRET}",
    f"sqlite://[{SECRET}]/x",
    f"sqlite:///x.db?key={SECRET}",
    f"sqlite:///x.db#{SECRET}",
    f"sqlite:///x.db;password={SECRET}",
    f"sqlite:///x.db&key={SECRET}",
    f"sqlite:///u:{SECRET}@h/x.db",
    f"sqlite:////u:{SECRET}@h/x.db",
    f"sqlite:///{SECRET}%00",
)


def told_by(error: BaseException) -> str:
    """Return what a log or a terminal may show of an error, its causes included."""
    return "\n".join([str(error), repr(error), *traceback.format_exception(error)])


def holds(told: str) -> bool:
    """Whether a text tells the password, or the greater part of it."""
    return any(each.lower() in told.lower() for each in (SECRET, SECRET[:8], SECRET[-8:], SLASHED))


@pytest.mark.parametrize("url", MISTYPED)
async def test_errors(url, caplog, tmp_path, monkeypatch):
    """No error of a client, nor what caused it, nor the log, tells the password of its URL."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.chdir(tmp_path)

    client = connect(url)
    with pytest.raises(StoreError) as caught:
        await open_store(url)

    assert not holds(told_by(caught.value)), str(caught.value)
    assert not holds(f"{client!r} {client} {caplog.text}")
    assert list(tmp_path.iterdir()) == []


FLAGS = [(), ("--debug",), ("--json",), ("--json", "--debug")]


@pytest.mark.parametrize("flags", FLAGS)
def test_commands(tmp_path, monkeypatch, capsys, flags, record_property):
    """No command tells it, with a traceback or without."""
    Fork.make(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    mistyped = [each for each in MISTYPED if "\0" not in each]
    try:
        for url in mistyped:
            monkeypatch.setenv("DATABASE_URL", url)
            assert perform(Invocation.read("agent", ["ostinato", "runs", *flags])) in (
                1,
                2,
            )  # nobody answers there, or it is none
            assert not holds("".join(capsys.readouterr())), url
    finally:
        logging.getLogger("ostinato").setLevel(logging.NOTSET)
    record_property("commands", len(mistyped))


@pytest.mark.parametrize("flags", FLAGS)
def test_in_a_process(tmp_path, flags):
    """Nor does a process that a person starts."""
    fork = Fork.make(tmp_path)
    url = MISTYPED[0] if "--json" in flags else f"postgresql://u@{HERE}/db?port={SECRET}"

    done = fork.do("run", "How many owls?", *flags, DATABASE_URL=url)

    assert done.code == 2
    assert "URL" in done.out + done.err
    assert not holds(done.out + done.err)


SIGNS = st.sampled_from([*":/@?#&=[]%,;' \\\"", "//", "://", "%3A", "%40", "%zz", "\n"])
WORDS = st.sampled_from(
    [
        *("postgresql", "postgres", "sqlite", "u", "me", "127.0.0.1", "1", "99999", "db"),
        *("password", "host", "sslmode", "user", "x.db", "::1", "", "service", "options", "ü"),
    ]
)
SCHEMES = st.sampled_from(["postgresql://", "postgres://", "sqlite://", "sqlite:///", ""])


@given(SCHEMES, st.lists(SIGNS | WORDS, max_size=9), st.lists(SIGNS | WORDS, max_size=9))
@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_whatever_is_a_url_of_sorts(tmp_path, monkeypatch, scheme, before, after):
    """Wherever a secret stands in what is a URL of sorts, no refusal of it tells the secret."""
    url = scheme + "".join(before) + SECRET + "".join(after)
    monkeypatch.chdir(tmp_path)
    try:
        if url.startswith("postgres") and "://" in url:
            told = PostgresUrl.read(url).shown
        elif "@" not in url and "://" in url and SECRET in url.split("://", 1)[1]:
            return  # a file of that name
        else:
            await open_store(url)
            return
    except BadDatabaseUrl as error:
        told = told_by(error)

    assert not holds(told)


@given(st.lists(SIGNS | WORDS | st.just(SECRET), min_size=1, max_size=9))
@settings(max_examples=300, deadline=None)
def test_messages_of_others(parts):
    """Nothing that libpq may quote of a URL that is understood is told, unless it is a name."""
    try:
        url = PostgresUrl.read("postgresql://" + "".join(parts))
    except BadDatabaseUrl:
        return
    quoted = [url.user, url.password, *url.hosts, url.database, *(v for _, v in url.options)]

    assert not holds(url.hide_in(" ".join(f'invalid "{each}"' for each in quoted)))


def test_what_is_told():
    """Of a URL that is understood, its names are told, and others' messages are not spoilt."""
    url = PostgresUrl.read(
        "postgresql://app_user:pg@db-1.example.com:5432,db2/shop?sslmode=require"
    )

    assert url.shown == "postgresql://app_user@db-1.example.com:5432,db2/shop"
    told = (
        'FATAL: password authentication failed for user "app_user" (pg_hba.conf, sslmode=require)'
    )
    assert url.hide_in(told) == told
    socket = PostgresUrl.read("postgresql:///shop?host=/var/run/postgresql")
    assert (
        socket.hide_in('on socket "/var/run/postgresql/.s"') == 'on socket "/var/run/postgresql/.s"'
    )
    same = PostgresUrl.read("postgresql://postgres:postgres@h/postgres")
    assert same.shown == "postgresql://postgres@h/postgres"
