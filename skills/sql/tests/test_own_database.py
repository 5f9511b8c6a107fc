"""The database in which the kit keeps its runs is not read by a model, whatever it is called."""

import os

import apsw
import pytest

from skills.sql import describe_schema, query_sql
from skills.sql.answer import QueryFailed
from substrate import connect

REFUSED = "this is the database in which the kit keeps its runs"


@pytest.fixture
async def own(tmp_path):
    """Provide the file of the kit's own database."""
    file = tmp_path / "shop.db"
    async with connect(f"sqlite:///{file}"):
        pass
    return file


@pytest.mark.parametrize("way", ["as it is", "a link", "a hard link", "a copy", "with more in it"])
async def test_the_kits_own_database_is_refused(own, tmp_path, way):
    """It is known by its tables: under another name, by a link or as a copy, it is refused too."""
    asked = tmp_path / "other.db"
    if way == "as it is":
        asked = own
    elif way == "a link":
        asked.symlink_to(own)
    elif way == "a hard link":
        os.link(own, asked)
    elif way == "a copy":
        apsw.Connection(str(own)).execute("VACUUM INTO ?", (str(asked),)).fetchall()
    else:
        apsw.Connection(str(own)).execute("CREATE TABLE customers (id)").fetchall()
        asked = own
    for tool in (query_sql(f"sqlite:///{asked}"), describe_schema(f"sqlite:///{asked}")):
        arguments = ("SELECT 1",) if tool.name == "query_sql" else ()
        with pytest.raises(QueryFailed, match=REFUSED):
            await tool.function(*arguments)


async def test_it_is_not_attached_to_another(own, tmp_path):
    """From a database of one's own it is not reached either."""
    shop = tmp_path / "customers.db"
    apsw.Connection(str(shop)).execute("CREATE TABLE customers (id)").fetchall()

    with pytest.raises(QueryFailed, match="only reading is allowed"):
        await query_sql(f"sqlite:///{shop}").function(f"ATTACH '{own}' AS own")


async def test_tables_of_the_same_names_are_read(tmp_path):
    """A shop that has runs, promises and signals of its own is none of the kit's."""
    shop = tmp_path / "races.db"
    for name in ("runs", "promises", "signals"):
        apsw.Connection(str(shop)).execute(f"CREATE TABLE {name} (id, apart, made)").fetchall()

    answer = await query_sql(f"sqlite:///{shop}").function("SELECT count(*) FROM promises")

    assert answer["rows"] == [[0]]
