"""Where promises live: one `Store` protocol, SQLite and Postgres behind it.

Both keep the same methods in the same order; rows become values here and nowhere else.
"""

try:
    import fcntl  # noqa: F401 - asked here, so that it is told before a store is opened
except ModuleNotFoundError as error:
    raise ImportError("ostinato runs on Linux and macOS; on Windows, use it in WSL") from error
