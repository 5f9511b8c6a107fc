"""What others have made in the database is never called in the place of PostgreSQL's own."""

import pkgutil
import re
from collections.abc import AsyncIterator
from importlib import import_module
from pathlib import Path

import psycopg
import pytest

import substrate.store.postgres
from substrate import Client
from substrate.store.connect import open_store
from substrate.store.migrate import CREATE_TABLE, SELECT_APPLIED, migrations
from substrate.store.postgres.rights import FORGETTING, RIGHTS
from substrate.values.errors import StoreUnusable
from tests.postgres import fresh_database
from tests.primitives import drive, every_primitive, forget
from tests.proxies import proxy_to
from tests.stores import database, opened

PLANT = Path(__file__).with_name("planted.sql").read_text(encoding="utf-8")
STATEMENT = re.compile(r"\b(?:SELECT|INSERT|UPDATE|DELETE|extract)\b")
NOISE = re.compile(r"--[^\n]*|'[^']*'|%\(\w+\)[sb]|%[sb]|::")


def statements() -> list[str]:
    """Return every statement of the kit to Postgres, without what looks like an operator in it."""
    texts = [CREATE_TABLE, SELECT_APPLIED, *(each.sql for each in migrations("postgres"))]
    for found in pkgutil.iter_modules(substrate.store.postgres.__path__):
        module = import_module(f"{substrate.store.postgres.__name__}.{found.name}")
        texts += [text for text in vars(module).values() if type(text) is str]
    return [NOISE.sub(" ", text) for text in texts if STATEMENT.search(text)]


def operators() -> list[str]:
    """Return the operators that they use, and those behind IN, BETWEEN and CASE."""
    used = {each for text in statements() for each in re.findall(r"[-+*/<>=~!@#%^&|`?]+", text)}
    return sorted(used | {"=", "<>", ">=", "<="})


def functions() -> list[str]:
    """Return whatever stands before a parenthesis: functions, and words that are none."""
    return sorted({name for text in statements() for name in re.findall(r"\b(\w+)\s*\(", text)})


def plant(url: str, operators: list[str]) -> int:
    """Plant in a database, and drop the tables of the kit that were there; return how much."""
    with psycopg.connect(url, autocommit=True) as tenant:
        tenant.execute(PLANT.encode())
    with database(url) as db:
        found = db.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        planted: int = db.value(
            "SELECT planter.plant(:operators, :functions)",
            operators=operators,
            functions=functions(),
        )
        db.rows(f"DROP TABLE {', '.join(name for (name,) in found)}")
        return planted


@pytest.fixture
async def planted(postgres_dsn, request, record_property) -> AsyncIterator[str]:
    """Provide a database in which much is planted, and none of the kit's tables is there yet."""
    with fresh_database(postgres_dsn) as url:
        async with opened(url):  # for the types of its columns
            pass
        names = getattr(request, "param", operators())
        number = plant(url, names)
        assert number > 1000
        what = f"planted beside {len(names)} operators"
        record_property(what, f"{number} functions, types and casts")
        yield url


def called(url: str) -> str | None:
    """Return which of what is planted was called last."""
    with database(url) as db:
        found: str | None = db.value("SELECT (SELECT planter.called())")
        return found


def make_entries(url: str) -> None:
    """Make the table for the transactional step."""
    with database(url) as db:
        db.rows("CREATE TABLE entries (run text)")


INEXACT = (
    "SELECT extract(epoch FROM clock_timestamp()) * 1000",
    "SELECT 1::bigint = 1.5::numeric",
    "SELECT 'a'::varchar || 'b'::varchar",
    "SELECT unnest(ARRAY[1::bigint])",
    "SELECT 'run'::public.lure::text",
)


async def test_nothing_planted_is_called(planted, tmp_path):
    """Tables are made and every primitive is used among what a tenant planted: none is called.

    Directly, then through a pooler. What gives no exact types, of any kind, would call it.
    """
    async with opened(planted) as store:
        make_entries(planted)
        await every_primitive(store, tmp_path)
        await forget(store)
    assert called(planted) is None

    (tmp_path / "pooled").mkdir()
    with database(planted) as db:
        db.rows(f"DROP TABLE entries, {', '.join({*RIGHTS, *FORGETTING})}")
    async with proxy_to(planted, is_pooler=True) as proxy, opened(proxy.url) as store:
        make_entries(planted)
        await every_primitive(store, tmp_path / "pooled", planted)
        await forget(store)
    assert called(planted) is None

    for statement in INEXACT:
        with database(planted) as db:
            with pytest.raises(psycopg.errors.RaiseException, match="planted"):
                db.rows(statement)
            assert called(planted) is not None
            db.rows("SELECT setval('planter.call', 1, false)")


@pytest.mark.parametrize("planted", [["="]], indirect=True, ids=["equals"])
async def test_a_path_that_names_the_catalogue_late(planted, tmp_path):
    """Where a user's path has others before PostgreSQL's own, that is put right, or refused."""
    path = "options=-csearch_path%3Dpublic,pg_catalog"
    make_entries(planted)

    async with opened(f"{planted}&{path}") as store:
        await drive(Client(store), tmp_path)
    assert called(planted) is None

    async with proxy_to(planted, is_pooler=True) as proxy:
        with pytest.raises(StoreUnusable, match=r"has 'public' before pg_catalog.*ALTER ROLE"):
            await open_store(f"{proxy.url}&{path}")
    assert called(planted) is None
