"""The environment: ``.env`` in the current folder is read into it, and DATABASE_URL out of it.

What is set outside wins over the file. A line of it is ``KEY=VALUE``, as python-dotenv reads it,
with ``export`` before it or without; ``$`` and braces in a value stand for themselves.

Invariants: the file sets nothing that decides which code this process or its children load, or who
stands between it and a server, as far as such variables are known; a line
that is refused is named by its number and never shown, since it may hold a secret.
"""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import closing
from io import StringIO
from pathlib import Path
from urllib.parse import unquote

from dotenv.parser import parse_stream

from substrate.cli.wrong_file import WrongFile

DEFAULT_DATABASE = "sqlite:///runs.db"

LONGEST_DOTENV = 256 * 1024
"""How many bytes of ``.env`` are read at most."""

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LOADERS = re.compile(
    r"LD_\w+|DYLD_\w+|PYTHON\w*|PATH|IFS|ENV|BASH_ENV|BASH_FUNC_\w+|GCONV_PATH|GLIBC_TUNABLES"
    r"|LOCPATH|OPENSSL_(CONF|MODULES|ENGINES)|NODE_OPTIONS|NODE_PATH|PERL5(LIB|OPT|DB)|PERLLIB"
    r"|LIBPATH|SHLIB_PATH|KRB5_CONFIG|KRB5_\w*PATH|GSS_MECH_CONFIG|GSSAPI_\w+|SASL_(CONF_)?PATH"
    r"|PKCS11_\w+|P11_KIT_\w+|COVERAGE_\w+|RUBY(LIB|OPT)|JAVA_TOOL_OPTIONS|_JAVA_OPTIONS"
    r"|GIT_(SSH|EXEC_PATH|CONFIG\w*|SSH_COMMAND)|HOME|XDG_CONFIG_\w+|VIRTUAL_ENV|UV_\w+"
    r"|PSYCOPG_\w+|PYDANTIC_\w+|PGSERVICE\w*|PGSYSCONFDIR"
    r"|MALLOC_\w+|\w*_TRACEBACK_HOOK|SITECUSTOMIZE|USERBASE|PYTEST_\w+|_PYTHON_\w+|OTEL_PYTHON_\w+|PIP_\w+|POETRY_\w+|CONDA_\w+|HATCH_\w+"
    r"|GIT_(ASKPASS|EDITOR|EXTERNAL_\w+|PAGER|PROXY_COMMAND|SEQUENCE_EDITOR|TEMPLATE_DIR)"
    r"|RUSTC?_\w+|JDK_JAVA_OPTIONS|JAVA_OPTS|NODE_(EXTRA_CA_CERTS|REPL_\w+)|NPM_CONFIG_\w+"
    r"|ZDOTDIR|FPATH|CDPATH|SHELLOPTS|BASHOPTS|PS4|PROMPT_COMMAND|INPUTRC|EDITOR|VISUAL|PAGER|MANPAGER"
    r"|BROWSER|SHELL|LESSOPEN|LESSCLOSE|SUDO_\w+|TERMINFO(_DIRS)?|TERMCAP|XDG_\w+|USERPROFILE"
    r"|APPDATA|LOCALAPPDATA|NLSPATH|HOSTALIASES|RES_OPTIONS|LOCALDOMAIN|GETCONF_DIR|TMPDIR|TEMP|TMP"
    r"|DOCKER_CONFIG|AWS_(CONFIG|SHARED_CREDENTIALS)_FILE|CLOUDSDK_(PYTHON\w*|CONFIG)"
    r"|BOTO_(CONFIG|PATH)|KUBECONFIG|\w+_ALLOW_EXECUTABLES?|\w+_EXECUTABLE",
    re.IGNORECASE,
)
# What is said on the line to a server goes elsewhere by these, or is read along: a file beside the
# agent names servers by their base URLs, and no third one that stands in between.
_BETWEEN = re.compile(
    r"(HTTPS?|ALL|FTP|WSS?|SOCKS|GRPC|NO)_PROXY|NO_GRPC_PROXY|\w*SSL_\w*CERTS?_(FILE|DIR)"
    r"|\w+_CA_(BUNDLE|CERTS?|FILE|PATH)|SSLKEYLOGFILE|PYTHONHTTPSVERIFY|GRPC_\w+|SSH_\w+|CGI_HTTP_PROXY"
    r"|GNUTLS_\w+|GIT_SSL_\w+|GOOGLE_API_\w*CERTIFICATE\w*"
    # With a database's URL set outside, these of libpq would send its password elsewhere, or in
    # clear text: its host's address, all that is TLS, and who has to be asked for what.
    r"|PG(HOSTADDR|OPTIONS|PASSFILE|CHANNELBINDING|TARGETSESSIONATTRS|LOADBALANCEHOSTS)"
    r"|PG(SSL|GSS|KRB|REQUIRE|OAUTH|MINPROTOCOL|MAXPROTOCOL)\w+",
    re.IGNORECASE,
)
# libpq takes ``sslkey=ENGINE:KEY`` for an OpenSSL engine, and loads it as a file where the name is
# a path; a service's file may say so as well.
_ENGINE = re.compile(r"\bsslkey\s*=\s*'?[^&\s]*:", re.IGNORECASE)
_SERVICE = re.compile(r"[?&\s](service|servicefile)\s*=", re.IGNORECASE)


class DotenvBroken(WrongFile):
    """``.env`` cannot be read as it is. Nothing was set from it, and nothing was started."""


def load_dotenv(folder: Path) -> None:
    """Set what the folder's ``.env`` has and the environment does not. Raises `DotenvBroken`."""
    for key, value in read_dotenv(folder / ".env").items():
        os.environ.setdefault(key, value)


def read_dotenv(file: Path) -> Mapping[str, str]:
    """Return what the file sets, the last of each name; nothing where there is none."""
    try:
        text = _text_of(file)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else _cause(error)
        raise DotenvBroken(f"{file.name} cannot be read: {why}; mend it, or move it away") from None
    return dict(_settings(file.name, text))


def _cause(error: Exception) -> str:
    """Return why a file cannot be read, without the numbers that the system has for it."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def database_url() -> str:
    """Return where runs live: DATABASE_URL, or a SQLite file in the current folder."""
    return os.environ.get("DATABASE_URL") or DEFAULT_DATABASE


def tenant() -> str:
    """Return whose runs are started, and whose memory is looked at: OSTINATO_TENANT, if set."""
    return os.environ.get("OSTINATO_TENANT") or ""


def timezone() -> str | None:
    """Return the time zone in which the person who asks lives: OSTINATO_TIMEZONE, if it is set."""
    return os.environ.get("OSTINATO_TIMEZONE") or None


def _text_of(file: Path) -> str:
    """Return a file's text. One that has no end, or never begins, is not waited for."""
    opened = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO has no writer
    with closing(os.fdopen(opened, "rb")) as source:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            raise OSError("it is no regular file")
        read = source.read(LONGEST_DOTENV + 1)
    if len(read) > LONGEST_DOTENV:
        raise OSError(f"it is longer than {LONGEST_DOTENV // 1024} kB")
    return read.decode("utf-8-sig")


def _settings(name: str, text: str) -> Iterator[tuple[str, str]]:
    for binding in parse_stream(StringIO(text)):
        written = binding.original.string
        blank = len(written) - len(written.lstrip())
        place = f"{name}:{binding.original.line + written[:blank].count(chr(10))}"
        if binding.key is None and not binding.error:  # an empty line, or a comment
            continue
        if binding.key is None or binding.value is None or not _KEY.fullmatch(binding.key):
            raise DotenvBroken(f"{place} sets nothing; write KEY=VALUE, and close its quotes")
        if "\0" in binding.value:
            raise DotenvBroken(f"{place} has a NUL character in its value; take it out")
        if _LOADERS.fullmatch(binding.key):
            raise DotenvBroken(
                f"{place} sets {binding.key}, which decides what code is loaded, and a file beside "
                "the agent may not; set it outside, where the command is started"
            )
        if _BETWEEN.fullmatch(binding.key):
            raise DotenvBroken(
                f"{place} sets {binding.key}, which decides who reads along on the way to a "
                "server, and a file beside the agent may not; set it outside, where the command is "
                "started"
            )
        if _names_an_engine(binding.key, binding.value):
            raise DotenvBroken(
                f"{place} sets {binding.key}, whose sslkey or service decides what code is loaded,"
                " and a file beside the agent may not; give sslkey the path of a key, without ':',"
                " and name a service outside, where the command is started"
            )
        yield binding.key, binding.value


def _names_an_engine(key: str, value: str) -> bool:
    """Return whether libpq would load an engine for this: its own variable, or any database URL."""
    if key.upper() == "PGSSLKEY":
        return ":" in value
    plain = unquote(value)  # libpq undoes the escapes of a URL's options, and of their names
    return bool(_ENGINE.search(plain) or (_SERVICE.search(plain) and "postgres" in plain))
