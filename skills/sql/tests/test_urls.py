"""What is told of a database URL that cannot be used holds no part of its password."""

import pytest

from skills.sql import describe_schema, query_sql
from skills.sql.answer import QueryFailed
from substrate.values.errors import BadDatabaseUrl

MARK = "Zebrah7788"

UNKNOWN = [
    f"reader:{MARK}@127.0.0.1/shop",
    f"postgresql:/reader:{MARK}@127.0.0.1/shop",
    f"postgres//u:{MARK}@h/db",
    f"host=h password={MARK}",
    f"{MARK}://u@h/db",
    f"sqlite:///x.db?key={MARK}",
    f"sqlite://{MARK}",
    f"postgresql://reader:Tr0@{MARK}@127.0.0.1:5432/shop",
    f"postgresql://reader:pw@127.0.0.1:{MARK}/shop",
    f"postgresql://u:p/{MARK}@127.0.0.1:x/d",
    f"postgresql://reader:pw@127.0.0.1:1/@{MARK}",
]
REFUSED = [
    f"postgresql://reader:{MARK}@127.0.0.1:1/shop",
    f"postgresql://reader:pw@127.0.0.1:1/shop?sslmode={MARK}!",
    f"postgresql://reader:pw@127.0.0.1:1/shop?password={MARK}",
    f"postgresql://reader:pw@127.0.0.1:1/shop?{MARK}%21=1",
]


@pytest.mark.parametrize("url", UNKNOWN)
@pytest.mark.parametrize("make", [query_sql, describe_schema])
def test_none_that_is_known(make, url):
    """A URL that is not understood is refused when the tool is made, and is not quoted."""
    with pytest.raises(BadDatabaseUrl) as refused:
        make(url)

    assert MARK not in str(refused.value)
    assert "postgresql://" in str(refused.value) or "sqlite:///" in str(refused.value)


@pytest.mark.parametrize("url", REFUSED)
async def test_none_that_answers(url):
    """What the server, or its driver, says of a URL is told without what is secret in it."""
    with pytest.raises((QueryFailed, BadDatabaseUrl)) as failed:
        await query_sql(url).function("SELECT 1")

    assert MARK not in str(failed.value)


def test_none_at_all():
    """A variable that is not set is named as such."""
    with pytest.raises(BadDatabaseUrl, match="is the variable set"):
        query_sql(None)
