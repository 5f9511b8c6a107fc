"""What is wrong with a database URL is told before anything is connected to, and is no outage."""

import pytest

from substrate import connect
from substrate.values.errors import BadDatabaseUrl, StoreUnusable
from tests.fork import Fork

SECRET = "S3CRETpw"

WRONG = {
    "sslmode": "write disable, allow, prefer, require, verify-ca or verify-full",
    "channel_binding": "write disable, prefer or require",
    "gssencmode": "write disable, prefer or require",
    "target_session_attrs": "write any, read-write, read-only, primary, standby",
    "load_balance_hosts": "write disable or random",
    "ssl_min_protocol_version": "write TLSv1.2 or TLSv1.3",
    "require_auth": "what PostgreSQL's manual lists for it",
    "connect_timeout": "write a whole number",
    "keepalives": "write a whole number",
    "keepalives_idle": "write a whole number",
    "keepalives_count": "write a whole number",
    "tcp_user_timeout": "write a whole number",
    "port": "write a number from 1 to 65535",
}


@pytest.mark.parametrize("option", WRONG)
async def test_an_option_with_a_value_that_it_cannot_have(option):
    """An option of a URL with a wrong value is named, with what to write, and not quoted."""
    url = f"postgresql://user:{SECRET}@127.0.0.1/db?{option}={SECRET}9"

    with pytest.raises(BadDatabaseUrl, match=f"the option '{option}' of .*{WRONG[option]}") as told:
        async with connect(url):
            pass

    assert SECRET not in str(told.value)
    assert "user" in str(told.value)


@pytest.mark.parametrize("port", ["0", "65536", "99999999", "1.5", "-1", "5432,x"])
async def test_a_port_that_is_none(port):
    """A port that no server can have is told, wherever in the URL it stands."""
    urls = [f"postgresql://u@127.0.0.1/db?port={port}"]
    urls += [] if "," in port else [f"postgresql://u@127.0.0.1:{port}/db"]
    for url in urls:
        with pytest.raises(BadDatabaseUrl, match=r"from 1 to 65535|no host and port that can be"):
            async with connect(url):
                pass


async def test_a_mistyped_option():
    """An option that there is not is told with the one that was meant, and not with its value."""
    url = f"postgresql://u@127.0.0.1/db?sslmod={SECRET}"

    with pytest.raises(BadDatabaseUrl, match="did you mean 'sslmode'") as told:
        async with connect(url):
            pass

    assert SECRET not in str(told.value)


@pytest.mark.parametrize(
    "options",
    [
        "sslmode=prefer&channel_binding=prefer&gssencmode=disable",
        "connect_timeout=3&keepalives=1&keepalives_idle=5&tcp_user_timeout=9000",
        "target_session_attrs=read-write&application_name=it's%20mine%5C",
        "options=-c%20statement_timeout%3D5s",
    ],
)
async def test_right_options(postgres_url, options):
    """What libpq takes is taken, quotes and backslashes among it."""
    async with connect(f"{postgres_url}{'&' if '?' in postgres_url else '?'}{options}") as client:
        assert await client.list() == []


async def test_a_folder_for_a_file(tmp_path):
    """A folder in the place of a SQLite file is called one, with what to write."""
    with pytest.raises(StoreUnusable, match="since it is a folder; name a file in it, as in"):
        async with connect(f"sqlite:///{tmp_path}"):
            pass


def test_a_folder_at_the_command_line(tmp_path):
    """The command line says so, too, whether it looks or runs."""
    fork = Fork.make(tmp_path, "sqlite:///agent")
    for typed in (("runs",), ("run", "How many owls?")):
        done = fork.do(*typed)
        assert done.code == 1
        assert "'agent', since it is a folder; name a file in it" in done.err
