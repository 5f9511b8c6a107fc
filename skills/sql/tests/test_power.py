"""PostgreSQL is asked only as a role that can do nothing but read the tables meant for it."""

import re
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from skills.sql import describe_schema, query_sql
from skills.sql.answer import QueryFailed
from skills.sql.power import JOURNAL
from substrate import connect

POWERS = {
    "read all data": (("GRANT pg_read_all_data TO {role}",), ""),
    "monitor": (("GRANT pg_monitor TO {role}",), ""),
    "read all settings": (("GRANT pg_read_all_settings TO {role}",), ""),
    "read all statistics": (("GRANT pg_read_all_stats TO {role}",), ""),
    "attribute replication": ((), "REPLICATION"),
    "attribute createrole": ((), "CREATEROLE"),
    "attribute createdb": ((), "CREATEDB"),
    "insert": (("GRANT INSERT ON customers TO {role}",), ""),
    "update of a column": (("GRANT UPDATE (name) ON customers TO {role}",), ""),
    "truncate": (("GRANT TRUNCATE ON customers TO {role}",), ""),
    "a view": (("GRANT DELETE ON named TO {role}",), ""),
    "a sequence": (("CREATE SEQUENCE s", "GRANT USAGE ON s TO {role}"), ""),
    "owner": (
        ("ALTER TABLE orders OWNER TO {role}", "REVOKE ALL ON orders FROM {role}"),
        "",
    ),
    "create in a schema": (("CREATE SCHEMA s", "GRANT CREATE ON SCHEMA s TO {role}"), ""),
    "everyone may create": (("GRANT CREATE ON SCHEMA public TO PUBLIC",), ""),
    "write all data": (("GRANT pg_write_all_data TO {role}",), ""),
    "read files of the server": (("GRANT pg_read_server_files TO {role}",), ""),
    "write files of the server": (("GRANT pg_write_server_files TO {role}",), ""),
    "signal others": (("GRANT pg_signal_backend TO {role}",), ""),
    "create in the database": (("GRANT CREATE ON DATABASE {database} TO {role}",), ""),
    "programs on the server": (("GRANT pg_execute_server_program TO {role}",), ""),
    "by becoming another role": (("GRANT pg_write_all_data TO {role}",), "NOINHERIT"),
    "passwords of roles": (("GRANT SELECT ON pg_authid TO {role}",), ""),
    "one column of them": (("GRANT SELECT (rolpassword) ON pg_authid TO {role}",), ""),
    "passwords of users": (("GRANT SELECT ON pg_shadow TO {role}",), ""),
    "passwords for everybody": (("GRANT SELECT ON pg_authid TO PUBLIC",), ""),
    "user mappings": (("GRANT SELECT ON pg_user_mapping TO {role}",), ""),
    "subscriptions": (("GRANT SELECT ON pg_subscription TO {role}",), ""),
    "samples of tables": (("GRANT SELECT ON pg_statistic TO {role}",), ""),
    "large objects": (("GRANT SELECT ON pg_largeobject TO {role}",), ""),
    "a user mapping": (
        (
            "CREATE FOREIGN DATA WRAPPER far",
            "CREATE SERVER away FOREIGN DATA WRAPPER far",
            "GRANT USAGE ON FOREIGN SERVER away TO {role}",
            "CREATE USER MAPPING FOR {role} SERVER away OPTIONS (password 'secret')",
        ),
        "",
    ),
    "a function that reads files": (
        ("GRANT EXECUTE ON FUNCTION pg_read_file(text) TO {role}",),
        "",
    ),
    "the same for everybody": (("GRANT EXECUTE ON FUNCTION pg_read_file(text) TO PUBLIC",), ""),
    "a function that lists files": (("GRANT EXECUTE ON FUNCTION pg_ls_dir(text) TO {role}",), ""),
    "a function that takes a file in": (
        ("GRANT EXECUTE ON FUNCTION lo_import(text) TO {role}",),
        "",
    ),
    "a function of the administrator": (
        ("GRANT EXECUTE ON FUNCTION pg_reload_conf() TO {role}",),
        "",
    ),
}

LEAKS = [
    "SELECT rolpassword FROM pg_authid",
    "SELECT passwd FROM pg_shadow",
    "SELECT umoptions FROM pg_user_mapping",
    "SELECT umoptions FROM pg_user_mappings WHERE umoptions IS NOT NULL",
    "SELECT subconninfo FROM pg_subscription",
    "SELECT stavalues1 FROM pg_statistic",
    "SELECT pg_read_file('/etc/hostname')",
    "SELECT pg_ls_dir('/')",
    "SELECT data FROM pg_largeobject",
    "SELECT setting FROM pg_file_settings",
]


@pytest.mark.parametrize("make", [query_sql, describe_schema])
async def test_a_superuser_is_refused(make, owner, make_role):
    """A superuser's connection is not used, and the message says how to make a reading role."""
    tool = make(make_role(attributes="SUPERUSER"))
    arguments = {"sql": "SELECT 1"} if make is query_sql else {}

    with pytest.raises(QueryFailed, match=r"is a superuser(?s:.)*CREATE ROLE reader") as caught:
        await tool.function(**arguments)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("grants, attributes", POWERS.values(), ids=POWERS)
async def test_a_role_that_can_do_more_is_refused(make_reader, grants, attributes):
    """A role that may do more than read tables, by itself or by becoming another, is not used."""
    url = make_reader(*grants, attributes=attributes)

    with pytest.raises(QueryFailed, match="this connection is not used: the role"):
        await query_sql(url).function("SELECT 1")


async def test_the_advice_makes_a_role_that_is_accepted(owner, make_role, postgres_url):
    """The statements in the refusal, run as they stand, make a role that reads and no more."""
    with pytest.raises(QueryFailed) as refused:
        await query_sql(make_role(attributes="SUPERUSER")).function("SELECT 1")
    advice = re.sub(r"\breader\b", "advised", str(refused.value).partition("made by:\n")[2])
    host = urlsplit(postgres_url).netloc.rpartition("@")[2]
    url = urlsplit(postgres_url)._replace(netloc=f"advised:…@{host}").geturl()

    owner.execute(advice)
    try:
        answer = await query_sql(url).function("SELECT count(*) FROM customers")
        assert answer["rows"] == [[2]]
        for leak in LEAKS:
            try:
                told = await query_sql(url).function(leak)
            except QueryFailed as error:
                assert "permission denied" in str(error)  # noqa: PT017 - or no rows, see below
            else:
                assert told["rows"] == []
    finally:
        owner.execute("DROP OWNED BY advised; DROP ROLE advised")


async def test_a_role_that_may_read_the_kits_journal_is_refused(make_reader, owner, postgres_url):
    """A role that sees what agents were told is not used, until the remedy was followed."""
    async with connect(postgres_url):
        pass
    url = make_reader()

    with pytest.raises(QueryFailed, match="where the kit records what agents do") as refused:
        await query_sql(url).function("SELECT count(*) FROM customers")
    revoke = re.search(r"REVOKE SELECT ON [\w, ]+ FROM ", str(refused.value))
    owner.execute(SQL(revoke[0] + "{}").format(Identifier(urlsplit(url).username)))

    answer = await query_sql(url).function("SELECT count(*) FROM customers")
    assert answer["rows"] == [[2]]
    with pytest.raises(QueryFailed, match="permission denied"):
        await query_sql(url).function("SELECT * FROM promises")


async def test_the_kits_tables_are_known(owner, postgres_url):
    """Every table that the kit makes is one that a reading role must not read."""
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    before = set(owner.execute(tables).fetchall())

    async with connect(postgres_url):
        pass

    made = set(owner.execute(tables).fetchall()) - before
    assert {name for (name,) in made} == set(JOURNAL)


async def test_a_journal_in_a_schema_of_its_own_is_no_hindrance(make_role, owner):
    """Tables of the same names that are nobody's journal, or can't be reached, do not matter."""
    owner.execute(
        "CREATE SCHEMA kit; CREATE TABLE kit.runs (); CREATE TABLE kit.ostinato_migrations ();"
        "CREATE TABLE runs (x int)"
    )
    url = make_role("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")

    assert (await query_sql(url).function("SELECT * FROM runs"))["columns"] == ["x"]


PAIRS = [
    *("oid, oid", "name, name", "name, text", "text, text", "text, name", '"char", "char"'),
    *("int4, int4", "int2, int2", "int2, int4", "int8, int8", "int4, int8", "bool, bool"),
    *("float4, float4", "float4, int4", "float4, float8", "text, int8", "int8, text"),
    *("regnamespace, oid", "oid, regnamespace", "regclass, oid", "regprocedure, oid"),
]
NAMES = [
    *("pg_has_role", "has_database_privilege", "has_schema_privilege", "has_table_privilege"),
    *("has_any_column_privilege", "has_column_privilege", "has_sequence_privilege", "set_config"),
    *("has_function_privilege", "has_server_privilege", "has_parameter_privilege", "length"),
    *("current_setting", "pg_size_bytes", "current_schemas", "current_database", "starts_with"),
    *("format_type", "quote_ident", "octet_length", "left", "substring", "pg_get_constraintdef"),
    *("text", "name", "int8", "oid"),
]
PLANT = """
DO $do$
DECLARE
    pair text; sign text; one record;
BEGIN
    FOREACH pair IN ARRAY %(pairs)s::text[] LOOP
        EXECUTE 'CREATE FUNCTION public.bent(' || pair || ') RETURNS bool LANGUAGE plpgsql AS
            $$BEGIN RAISE ''planted''; END$$';
        FOREACH sign IN ARRAY ARRAY['=', '<>', '<', '<=', '>', '>=', '~', '~~', '!~~', '||'] LOOP
            EXECUTE format('CREATE OPERATOR public.%%s (FUNCTION = public.bent, LEFTARG = %%s,
                RIGHTARG = %%s)', sign, split_part(pair, ',', 1), split_part(pair, ',', 2));
        END LOOP;
    END LOOP;
    FOR one IN
        SELECT proname, pg_get_function_identity_arguments(oid) AS given,
            pg_get_function_result(oid) AS result
        FROM pg_proc
        WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f' AND NOT proretset
            AND proname = ANY (%(names)s)
            AND pg_get_function_identity_arguments(oid) !~ '"any"|anyelement|internal|cstring'
            AND pg_get_function_result(oid) !~ 'cstring|internal'
    LOOP
        EXECUTE format('CREATE FUNCTION public.%%I(%%s) RETURNS %%s LANGUAGE plpgsql AS
            $$BEGIN RAISE ''planted''; END$$', one.proname, one.given, one.result);
    END LOOP;
END $do$
"""


@pytest.fixture
def planted(owner: psycopg.Connection) -> int:
    """Put operators and functions into public that fail when they are called; return how many."""
    owner.execute("SET search_path = pg_catalog")
    with psycopg.ClientCursor(owner) as cursor:
        cursor.execute(PLANT, {"pairs": PAIRS, "names": NAMES})
    count = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
    [planted] = owner.execute(count).fetchone()
    owner.execute("RESET search_path")
    return planted


PUBLIC_FIRST = "ALTER ROLE {role} SET search_path = public, pg_catalog"


async def test_nothing_that_a_tenant_planted_is_called(planted, make_reader):
    """With operators and functions of others first in the path, only the model's own meet them."""
    url = make_reader(PUBLIC_FIRST)
    assert planted > 60

    answer = await query_sql(url).function("SELECT name, id FROM customers ORDER BY id")
    cut = await query_sql(url).function("SELECT pg_catalog.repeat('x', 9000), note FROM orders")
    described = await describe_schema(url).function()
    with pytest.raises(QueryFailed, match="planted"):
        await query_sql(url).function("SELECT 1 FROM customers WHERE id = 1")
    with pytest.raises(QueryFailed, match="the tables are: customers, named, orders"):
        await query_sql(url).function("SELECT 1 FROM nowhere")

    assert answer["rows"] == [["Ada", 1], ["Bob", 2]]
    assert cut["rows"][0][0].endswith("[cut: 9000 characters in all]")
    assert [table["name"] for table in described["tables"]] == ["customers", "named", "orders"]


@pytest.mark.parametrize("power", ["insert", "read all data", "passwords of roles"])
async def test_what_a_tenant_planted_does_not_bend_the_check(planted, make_reader, power):
    """A role that may do too much is refused, whatever others made of the check's functions."""
    grants, attributes = POWERS[power]
    url = make_reader(PUBLIC_FIRST, *grants, attributes=attributes)

    with pytest.raises(QueryFailed, match="this connection is not used: the role"):
        await query_sql(url).function("SELECT name FROM customers")
