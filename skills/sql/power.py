"""What a PostgreSQL role may do beyond reading tables, asked of the server before anything else.

A read-only transaction is no boundary for a role that can end it, and no privilege on tables says
what a role can read of the server itself: passwords, files, other databases' samples. So a role is
refused that may do any of this, itself or by becoming another (a SELECT can do that, with
``set_config('role', …)``). So is one that is used for something else as well: what a role may end
and hold up are the sessions of that role.

The statements name what is in ``pg_catalog`` only, and run with a ``search_path`` of nothing else:
no operator or function that somebody else made takes part in them.
"""

from psycopg import Connection

from skills.sql.answer import QueryFailed

JOURNAL = (
    *("runs", "promises", "signals", "workers", "blobs", "rate_limits", "fleet", "lanes"),
    *("gates", "rules", "namespaces", "notes", "facts", "links", "history", "terms"),
    *("term_counts", "embedders", "vectors", "policies", "decisions", "motions", "ballots"),
    *("followers", "tombstones"),
    "ostinato_migrations",
)
"""Tables in which the kit records what every agent did and was told."""

KIT = "ostinato"
"""What the kit's own connections are called, where their URL does not say otherwise."""

_REACHABLE = """
WITH reachable AS (
    SELECT * FROM pg_catalog.pg_roles WHERE pg_has_role(session_user, oid, 'MEMBER')
)
"""

# What a server's own roles may do is the server's affair and grows with its releases.
_ROLES = f"""{_REACHABLE}
SELECT format('the role %I is a superuser', rolname)
FROM reachable WHERE rolsuper
UNION ALL
SELECT format('the role %I may replicate, or create roles or databases', rolname)
FROM reachable WHERE rolreplication OR rolcreaterole OR rolcreatedb
UNION ALL
SELECT format('the role %I is a member of %I, which may do more than read tables',
    session_user, rolname)
FROM reachable WHERE starts_with(rolname, 'pg_')
LIMIT 1
"""

_SECRETS = f"""{_REACHABLE}
SELECT format('the role %I may read %I of %I', rolname, attname, relname)
FROM reachable
CROSS JOIN (VALUES
    ('pg_authid', 'rolpassword'), ('pg_shadow', 'passwd'), ('pg_user_mapping', 'umoptions'),
    ('pg_subscription', 'subconninfo'), ('pg_statistic', 'stavalues1'),
    ('pg_statistic_ext_data', 'stxdmcv'), ('pg_largeobject', 'data'),
    ('pg_hba_file_rules', 'address'), ('pg_ident_file_mappings', 'sys_name'),
    ('pg_file_settings', 'setting')
) AS secret (relation_name, column_name)
JOIN pg_catalog.pg_class AS relation ON relname = relation_name
    AND relnamespace = 'pg_catalog'::regnamespace
JOIN pg_catalog.pg_attribute ON attrelid = relation.oid AND attname = column_name
WHERE has_column_privilege(reachable.oid, relation.oid, attnum, 'SELECT')
UNION ALL
-- The view pg_user_mappings shows a mapping's options, and so its password, to these.
SELECT format('the role %I may read the password of a user mapping for the server %I',
    rolname, mapping.srvname)
FROM reachable
CROSS JOIN pg_catalog.pg_user_mappings AS mapping
JOIN pg_catalog.pg_foreign_server AS server ON server.oid = mapping.srvid
WHERE CASE WHEN umuser = 0 THEN pg_has_role(reachable.oid, srvowner, 'USAGE')
    ELSE umuser = reachable.oid AND has_server_privilege(reachable.oid, srvid, 'USAGE') END
UNION ALL
-- Files and programs of the server: what its administrator keeps from PUBLIC, or should.
SELECT format('the role %I may call %s', rolname, pg_proc.oid::regprocedure)
FROM reachable
CROSS JOIN pg_catalog.pg_proc
WHERE pronamespace = 'pg_catalog'::regnamespace AND proacl IS NOT NULL
    AND (proname ~ '^(pg_read_.*file|pg_ls_|pg_stat_file|pg_file_|lo_import|lo_export)'
        OR NOT has_function_privilege('public', pg_proc.oid, 'EXECUTE'))
    AND has_function_privilege(reachable.oid, pg_proc.oid, 'EXECUTE')
LIMIT 1
"""

_WRITES = f"""{_REACHABLE},
spaces AS (
    SELECT oid, nspname FROM pg_catalog.pg_namespace
    WHERE NOT starts_with(nspname, 'pg_') AND nspname <> 'information_schema'
)
SELECT format('the role %I may create in the database %I', rolname, current_database())
FROM reachable WHERE has_database_privilege(oid, current_database(), 'CREATE')
UNION ALL
SELECT format('the role %I may create in the schema %I', rolname, nspname)
FROM reachable, spaces WHERE has_schema_privilege(reachable.oid, spaces.oid, 'CREATE')
UNION ALL
SELECT format('the role %I may write to %s', rolname, relation.oid::regclass)
FROM reachable, spaces JOIN pg_catalog.pg_class AS relation ON relation.relnamespace = spaces.oid
WHERE CASE relation.relkind
    WHEN 'S' THEN has_sequence_privilege(reachable.oid, relation.oid, 'USAGE, UPDATE')
    ELSE relation.relkind IN ('r', 'p', 'v', 'm', 'f') AND (
        relation.relowner = reachable.oid
        OR has_table_privilege(reachable.oid, relation.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
        OR has_any_column_privilege(reachable.oid, relation.oid, 'INSERT, UPDATE'))
END
LIMIT 1
"""

# A role that owns something, in whatever database of the server, is somebody's for something else.
_OTHERS = f"""{_REACHABLE}
SELECT format('the role %I owns something in %s', rolname,
    coalesce('the database ' || quote_ident(datname), 'the server'))
FROM reachable
JOIN pg_catalog.pg_shdepend AS owned ON refclassid = 'pg_authid'::regclass
    AND refobjid = reachable.oid AND deptype = 'o'
LEFT JOIN pg_catalog.pg_database AS place
    ON place.oid = CASE WHEN dbid = 0 AND classid = 'pg_database'::regclass THEN objid ELSE dbid END
UNION ALL
SELECT format('as the role %I a worker of the kit is connected, to the database %I, and a statement'
    ' could end that', rolname, datname)
FROM reachable JOIN pg_catalog.pg_stat_activity ON usesysid = reachable.oid
WHERE application_name = '{KIT}' AND pid <> pg_backend_pid()
LIMIT 1
"""

_JOURNAL = f"""{_REACHABLE}
SELECT format('the role %I may read %s, where the kit records what agents do', rolname,
    relation.oid::regclass)
FROM reachable
CROSS JOIN pg_catalog.pg_class AS mark
JOIN pg_catalog.pg_class AS relation ON relation.relnamespace = mark.relnamespace
WHERE mark.relname = 'ostinato_migrations' AND relation.relname IN ('{"', '".join(JOURNAL)}')
    AND has_schema_privilege(reachable.oid, relation.relnamespace, 'USAGE')
    AND has_any_column_privilege(reachable.oid, relation.oid, 'SELECT')
LIMIT 1
"""

_REMEDY = """use a role that can only read the tables meant for it, made by:
CREATE ROLE reader LOGIN PASSWORD '…';
GRANT USAGE ON SCHEMA public TO reader;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;"""

_JOURNAL_REMEDY = (
    "keep the kit's tables in a database of their own, or in a schema that this role may not use; "
    f"or REVOKE SELECT ON {', '.join(JOURNAL)} FROM it"
)

_OTHERS_REMEDY = f"give the tool a role of its own, which nobody else is connected as: {_REMEDY}"

_QUESTIONS = (
    (_ROLES, _REMEDY),
    (_SECRETS, _REMEDY),
    (_WRITES, _REMEDY),
    (_OTHERS, _OTHERS_REMEDY),
    (_JOURNAL, _JOURNAL_REMEDY),
)


def refuse_power(connection: Connection) -> None:
    """Raise `QueryFailed` for a role that may do more than read the tables meant for it.

    The connection's search path must be ``pg_catalog`` alone.
    """
    for question, remedy in _QUESTIONS:
        if found := connection.execute(question.encode()).fetchone():
            raise QueryFailed(f"this connection is not used: {found[0]}; {remedy}")
