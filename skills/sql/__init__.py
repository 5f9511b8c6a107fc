"""Read-only SQL for a model: ask a database, and see what is in it."""

from skills.sql.tools import describe_schema, query_sql

__all__ = ["describe_schema", "query_sql"]
