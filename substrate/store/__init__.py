"""Where promises live: one `Store`, over SQLite or Postgres.

Both dialects have the same modules with the same functions; `backend` says which. Rows become
values here and nowhere else.
"""

try:
    import fcntl  # noqa: F401 - asked here, so that it is told before a store is opened
except ModuleNotFoundError as error:
    raise ImportError("ostinato runs on Linux and macOS; on Windows, use it in WSL") from error
