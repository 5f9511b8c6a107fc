"""A fork's compose file says what runs it: read strictly, since there is no Docker here to read it.

Whatever is not known here is refused, so a key that is mistyped or at the wrong place is found.
"""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import copier
import pytest
import yaml

from substrate.engine.worker.options import DEFAULT_OPTIONS

KIT = Path(__file__).resolve().parent.parent
LONGEST_CLOSING = timedelta(seconds=16)
"""How long a worker may take to close beyond its grace: `_CLOSING` of `engine/worker/worker.py`."""

SERVICE = {
    "build": str,
    "cap_drop": list,
    "depends_on": dict,
    "deploy": dict,
    "env_file": list,
    "environment": dict,
    "healthcheck": dict,
    "image": str,
    "init": bool,
    "ports": list,
    "profiles": list,
    "restart": str,
    "security_opt": list,
    "stop_grace_period": str,
    "volumes": list,
}
"""What a service may have, of what the Compose Specification knows, and of which type."""

CHECK = {"test", "interval", "timeout", "retries", "start_period"}


def seconds(text: str) -> float:
    """Return a duration as the specification writes it."""
    found = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", text)
    assert found, text
    assert found[0]
    return 60 * int(found[1] or 0) + int(found[2] or 0)


class UniqueKeys(yaml.SafeLoader):
    """Refuses a key that is there twice, of which YAML would take the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), keys
        return super().construct_mapping(node, deep)


@pytest.fixture(params=["sqlite", "postgres"], scope="module")
def database(request: pytest.FixtureRequest) -> str:
    """Which database a fork was made for."""
    return str(request.param)


@pytest.fixture(scope="module")
def fork(database: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fork for that database."""
    folder = tmp_path_factory.mktemp("compose") / "my-agent"
    copier.run_copy(
        str(KIT), folder, data={"database": database}, defaults=True, vcs_ref="HEAD", quiet=True
    )
    return folder


@pytest.fixture(scope="module")
def compose(fork: Path) -> dict[str, Any]:
    """Its compose file."""
    text = (fork / "compose.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.load(text, UniqueKeys)
    return loaded


def test_only_what_is_known(compose: dict[str, Any], database: str) -> None:
    """It has services and volumes, and each service what compose knows, of the right type."""
    assert set(compose) == {"services", "volumes"}
    names = {"worker"} | ({"postgres"} & {database})
    assert set(compose["services"]) == names
    for name, service in compose["services"].items():
        for key, value in service.items():
            assert isinstance(value, SERVICE[key]), f"{name}.{key}"
        assert ("image" in service) != ("build" in service), name
        assert service["restart"] == "unless-stopped"


def test_volumes(compose: dict[str, Any], fork: Path) -> None:
    """Each volume is one that is declared, and the worker's lies where its image writes."""
    mounted = {}
    for name, service in compose["services"].items():
        for each in service["volumes"]:
            volume, _, path = each.partition(":")
            mounted[volume] = path
            assert path.startswith("/"), name
    assert mounted.keys() == compose["volumes"].keys()
    dockerfile = (fork / "Dockerfile").read_text(encoding="utf-8")
    assert f"\nVOLUME {mounted['data']}\n" in dockerfile
    if "runs" in mounted:  # where the images of PostgreSQL 18 and later have theirs
        assert compose["services"]["postgres"]["image"] == "postgres:18"
        assert mounted["runs"] == "/var/lib/postgresql"


def test_health(compose: dict[str, Any], fork: Path) -> None:
    """Each service says whether it is well; who needs another waits until that one is."""
    for service in compose["services"].values():
        check = service["healthcheck"]
        assert set(check) <= CHECK
        assert check["test"][0] in ("CMD", "CMD-SHELL")
        assert seconds(check["timeout"]) < 60
        assert seconds(check["interval"]) > 0
        assert check["retries"] > 0
        for needed, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}
            assert "healthcheck" in compose["services"][needed]
    asked = compose["services"]["worker"]["healthcheck"]["test"]
    last = (fork / "Dockerfile").read_text(encoding="utf-8").splitlines()[-1]
    command = re.findall(r'"([^"]+)"', last.removeprefix("CMD "))
    assert asked == ["CMD", *command, "--check"]


def test_workers_stop_in_time(compose: dict[str, Any]) -> None:
    """A worker has longer to stop than it takes to give its runs back, and signals reach it."""
    worker = compose["services"]["worker"]
    given = timedelta(seconds=seconds(worker["stop_grace_period"]))
    assert given > DEFAULT_OPTIONS.shutdown_grace + LONGEST_CLOSING
    assert worker["init"] is True
    assert worker["cap_drop"] == ["ALL"]
    assert worker["security_opt"] == ["no-new-privileges:true"]


def test_two_workers_over_postgres(compose: dict[str, Any], database: str) -> None:
    """Over PostgreSQL there are two workers, which have no port or name that but one could have."""
    worker = compose["services"]["worker"]
    assert worker.get("deploy") == ({"replicas": 2} if database == "postgres" else None)
    assert not {"ports", "container_name", "hostname"} & worker.keys()


def test_the_database_is_the_one_that_is_started(compose: dict[str, Any], fork: Path) -> None:
    """Workers, and commands outside, use the server that compose starts, with its password."""
    worker, server = compose["services"]["worker"], compose["services"].get("postgres")
    assert worker["env_file"] == [{"path": ".env", "required": False}]
    if server is None:
        assert "environment" not in worker
        return
    made = server["environment"]
    outside = (fork / ".env").read_text(encoding="utf-8")
    [url] = re.findall(r"^DATABASE_URL=(.+)$", outside, re.MULTILINE)
    for given, host in ((worker["environment"]["DATABASE_URL"], "postgres"), (url, "127.0.0.1")):
        parts = urlsplit(given)
        assert (parts.scheme, parts.hostname, parts.port) == ("postgresql", host, 5432)
        assert parts.username == made["POSTGRES_USER"]
        assert parts.password == made["POSTGRES_PASSWORD"]
        assert parts.path == f"/{made['POSTGRES_DB']}"
    assert server["ports"] == ["127.0.0.1:5432:5432"]  # nobody else's to reach
    assert worker["profiles"] == ["worker"]  # `docker compose up` starts the database alone
