"""Where promises live: one `Store` protocol, SQLite and Postgres behind it.

Both keep the same methods in the same order; rows become values here and nowhere else.
"""
