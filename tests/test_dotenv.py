"""`.env` sets what the environment does not have, quickly or not at all, and tells no secret."""

import os
import time
from contextlib import suppress

import pytest

from substrate.cli.environment import LONGEST_DOTENV, DotenvBroken, load_dotenv, read_dotenv
from tests.fork import Fork

SECRET = "S3CRET-in-a-file"

READ = {
    "plain": ("OWLS=7", {"OWLS": "7"}),
    "export": ("export OWLS=7\n", {"OWLS": "7"}),
    "blanks": ("  OWLS = 7  \n", {"OWLS": "7"}),
    "comments": ("# OWLS=1\n\nOWLS=7 # of them\nBATS=a#b\n", {"OWLS": "7", "BATS": "a#b"}),
    "quotes": ("A='x # y'\nB=\"x # y\"\n", {"A": "x # y", "B": "x # y"}),
    "escapes": ("A=\"x\\ny\"\nB='x\\ny'\n", {"A": "x\ny", "B": "x\\ny"}),
    "several lines": ('A="x\ny"\nB=1\n', {"A": "x\ny", "B": "1"}),
    "a dollar stands for itself": ("A=p$HOME\nB=${HOME}\n", {"A": "p$HOME", "B": "${HOME}"}),
    "a dollar in quotes": ("A=\"p$1${HOME}\"\nB='${A}'\n", {"A": "p$1${HOME}", "B": "${A}"}),
    "empty": ("A=\nB=''\n", {"A": "", "B": ""}),
    "the last counts": ("A=1\nA=2\n", {"A": "2"}),
    "a mark at the beginning": ("\ufeffA=1\n", {"A": "1"}),
    "lines of Windows": ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
    "an equals sign": ("URL=postgresql://u:p=w@h/d?a=b\n", {"URL": "postgresql://u:p=w@h/d?a=b"}),
    "nothing": ("", {}),
}


@pytest.mark.parametrize("name", READ)
def test_read(tmp_path, name):
    """What a file says is read as python-dotenv reads it, without putting anything in."""
    text, expected = READ[name]
    (tmp_path / ".env").write_bytes(text.encode())

    assert read_dotenv(tmp_path / ".env") == expected


BROKEN = {
    "no equals sign": (f"OWLS=7\n\nKEY {SECRET}\n", ".env:3 sets nothing"),
    "a name alone": (f"OWLS=7\n{SECRET.replace('-', '_')}\n", ".env:2 sets nothing"),
    "no name": (f"={SECRET}\n", ".env:1 sets nothing"),
    "a name that is none": (f"{SECRET}=1\n", ".env:1 sets nothing"),
    "an open quote": (f'KEY="{SECRET}\n', ".env:1 sets nothing"),
    "two parts": (f"KEY='a' {SECRET}\n", ".env:1 sets nothing"),
    "NUL": (f"A=1\nKEY={SECRET}\0\n", ".env:2 has a NUL character"),
    "NUL in the name": (f"K\0EY={SECRET}\n", ".env:1 sets nothing"),
    "too long": (f"KEY={SECRET}" + "x" * LONGEST_DOTENV, ".env cannot be read: it is longer than"),
    "not UTF-8": (f"KEY={SECRET}\udcff", ".env cannot be read: it is not UTF-8"),
}


@pytest.mark.parametrize("flags", [(), ("--debug",), ("--json",)])
@pytest.mark.parametrize("name", BROKEN)
def test_broken(tmp_path, name, flags):
    """A file that cannot be read is refused by its line, sets nothing, and tells no secret."""
    text, expected = BROKEN[name]
    fork = Fork.make(tmp_path)
    (tmp_path / ".env").write_bytes(text.encode(errors="surrogateescape"))
    if flags:  # what differs is how it is told, not what
        done = fork.do("runs", *flags)
        told = done.out + done.err
        assert done.code == 2
    else:
        with pytest.raises(DotenvBroken) as caught:
            load_dotenv(tmp_path)
        told = str(caught.value)

    assert expected in told
    assert SECRET not in told
    assert SECRET.replace("-", "_") not in told
    assert "OWLS" not in os.environ


LOADERS = [
    "LD_PRELOAD",
    "LD_LIBRARY_PATH",
    "LD_AUDIT",
    "DYLD_INSERT_LIBRARIES",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "PYTHONWARNINGS",
    "PYTHONBREAKPOINT",
    "PATH",
    "path",
    "BASH_ENV",
    "ENV",
    "IFS",
    "GCONV_PATH",
    "GLIBC_TUNABLES",
    "NODE_OPTIONS",
    "PERL5OPT",
    "RUBYOPT",
    "JAVA_TOOL_OPTIONS",
    "GIT_SSH_COMMAND",
    "OPENSSL_CONF",
    "KRB5_CONFIG",
    "GSS_MECH_CONFIG",
    "SASL_PATH",
    "PKCS11_MODULE_PATH",
    "COVERAGE_PROCESS_START",
    "LIBPATH",
    "HOME",
    "PGSERVICE",
    "PGSERVICEFILE",
    "FPATH",
    "CDPATH",
    "PYTEST_PLUGINS",
    "PYTEST_ADDOPTS",
    "OTEL_PYTHON_CONFIGURATOR",
    "COVERAGE_RCFILE",
    "_PYTHON_SYSCONFIGDATA_NAME",
    "PGSYSCONFDIR",
    "PSYCOPG_IMPL",
    "PYDANTIC_DISABLE_PLUGINS",
    "VIRTUAL_ENV",
    "UV_PYTHON",
    "XDG_DATA_HOME",
    "XDG_CACHE_HOME",
    "PIP_INDEX_URL",
    "NODE_EXTRA_CA_CERTS",
    "GIT_EXTERNAL_DIFF",
    "PAGER",
    "EDITOR",
    "SHELL",
    "TMPDIR",
    "HOSTALIASES",
    "KUBECONFIG",
    "AWS_CONFIG_FILE",
    "OWLS_ALLOW_EXECUTABLES",
    "JDK_JAVA_OPTIONS",
    "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES",
]


@pytest.mark.parametrize("name", LOADERS)
def test_loaders(tmp_path, name):
    """A file beside the agent does not decide what code is loaded, and says so."""
    (tmp_path / ".env").write_text(f"OWLS=7\nexport {name}={SECRET}\n")

    with pytest.raises(DotenvBroken, match=rf"\.env:2 sets {name}, which decides") as caught:
        read_dotenv(tmp_path / ".env")

    assert SECRET not in str(caught.value)


BETWEEN = [
    *("HTTP_PROXY", "https_proxy", "ALL_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("grpc_proxy", "no_grpc_proxy", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "AWS_CA_BUNDLE"),
    *("HTTPLIB2_CA_CERTS", "SSH_ASKPASS", "SSH_AUTH_SOCK", "CGI_HTTP_PROXY", "GIT_SSL_CAINFO"),
    *("GNUTLS_SYSTEM_PRIORITY_FILE", "GOOGLE_API_CERTIFICATE_CONFIG", "PGHOSTADDR", "PGOPTIONS"),
    *("PGSSLMODE", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY", "PGSSLCRL", "PGSSLSNI", "PGPASSFILE"),
    *("PGREQUIREPEER", "PGREQUIREAUTH", "PGREQUIRESSL", "PGCHANNELBINDING", "PGGSSENCMODE"),
    *("PGSSLNEGOTIATION", "PGSSLMAXPROTOCOLVERSION", "PGKRBSRVNAME", "PGGSSLIB", "PGOAUTHDEBUG"),
    *("PGTARGETSESSIONATTRS", "PGMAXPROTOCOLVERSION", "PGLOADBALANCEHOSTS"),
    *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSLKEYLOGFILE"),
]


@pytest.mark.parametrize("name", BETWEEN)
def test_who_stands_between(tmp_path, name):
    """A file beside the agent does not decide who reads along on the way to a server."""
    (tmp_path / ".env").write_text(f"OWLS=7\n{name}={SECRET}\n")

    with pytest.raises(DotenvBroken, match=rf"\.env:2 sets {name}, which decides who") as caught:
        read_dotenv(tmp_path / ".env")

    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "DATABASE_URL=postgresql://u@127.0.0.1/db?sslmode=require&sslkey=/tmp/owls.so:key",
        "DATABASE_URL=postgresql://u@127.0.0.1/db?sslkey=/tmp/owls.so%3akey",
        "DATABASE_URL=postgresql://u@127.0.0.1/db?ssl%6bey=/tmp/owls.so:key",
        "DATABASE_URL=postgresql://u@127.0.0.1/db?service=owls",
        "OTHER_URL=postgresql://u@127.0.0.1/db?a=b&servicefile=/tmp/owls",
        "OTHER_DSN=host=127.0.0.1 sslkey='/tmp/owls.so:key'",
    ],
)
def test_engines_of_a_database(tmp_path, line):
    """A database's address loads no code either: libpq takes an engine for the key of a client."""
    (tmp_path / ".env").write_text(f"{line}\n")

    with pytest.raises(DotenvBroken, match=r"\.env:1 sets \w+, whose sslkey or service") as caught:
        read_dotenv(tmp_path / ".env")

    assert "owls" not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "DATABASE_URL=postgresql://u:sslkey@127.0.0.1:5432/db?sslkey=/home/me/client.key",
        "SERVICE_URL=https://127.0.0.1/?service=owls",
    ],
)
def test_keys_of_a_database(tmp_path, line):
    """A client's key that is a file is set."""
    (tmp_path / ".env").write_text(f"{line}\n")

    assert read_dotenv(tmp_path / ".env") == dict([line.split("=", 1)])


@pytest.mark.parametrize("name", ["PYTHON_VERSION_OF_OWLS", "LD_OWLS"])
def test_loaders_by_their_family(tmp_path, name):
    """What a loader may come to obey is refused by the beginning of its name."""
    (tmp_path / ".env").write_text(f"{name}=1\n")

    with pytest.raises(DotenvBroken):
        read_dotenv(tmp_path / ".env")


@pytest.mark.parametrize(
    "name",
    [
        *("DATABASE_URL", "MY_PATH", "PATHS", "OPENAI_API_KEY", "ENVIRONMENT", "MY_API_KEY"),
        *("OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "GOOGLE_CLOUD_PROJECT", "AWS_ACCESS_KEY_ID"),
        *("PGPASSWORD", "PGHOST", "MY_PROXY_URL", "OSTINATO_TIMEZONE", "SHOP_TOKEN", "TMP_OWLS"),
        *("NODE_ENV", "AWS_PROFILE", "GIT_AUTHOR_NAME", "NPM_TOKEN", "PGUSER"),
        *("PGPORT", "PGDATABASE", "PGAPPNAME", "PG_URL", "PGADMIN_EMAIL", "OTEL_SERVICE_NAME"),
    ],
)
def test_others(tmp_path, name):
    """Names that only look like those are set."""
    (tmp_path / ".env").write_text(f"{name}=x\n")

    assert read_dotenv(tmp_path / ".env") == {name: "x"}


def test_what_is_set_outside_wins(tmp_path):
    """The file sets only what is not set outside, where that is empty, too."""
    fork = Fork.make(tmp_path)
    (tmp_path / ".env").write_text("DATABASE_URL=sqlite:///inside.db\n")

    assert fork.do("run", "How many owls?", DATABASE_URL="sqlite:///outside.db").code == 0

    assert (tmp_path / "outside.db").exists()
    assert not (tmp_path / "inside.db").exists()


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_no_file(tmp_path, kind):
    """What is no regular file is refused at once, not waited for."""
    file = tmp_path / ".env"
    match kind:
        case "fifo":
            os.mkfifo(file)
        case "folder":
            file.mkdir()
        case "device":
            file.symlink_to("/dev/zero")

    with pytest.raises(DotenvBroken, match=r"\.env cannot be read"):
        read_dotenv(file)


@pytest.mark.parametrize(
    "line", [" " * 100_000, "A=" + " " * 100_000 + "x", "A" * 100_000, "#" * 99_999]
)
def test_quick(tmp_path, line):
    """A long line costs no more than its length."""
    (tmp_path / ".env").write_text(f"{line}\nB=")
    began = time.process_time()

    with suppress(DotenvBroken):
        read_dotenv(tmp_path / ".env")

    assert time.process_time() - began < 0.5
