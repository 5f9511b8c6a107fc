"""A model whose provider's SDK is not there is refused before a run is touched, with the cure."""

from pathlib import Path

import pytest

from tests.machine import Machine

MODEL = '"anthropic:claude-sonnet-5-5",'
RUN = ("uv", "run", "python", "-m", "agent", "run", "hi")
WORKER = (*RUN[:5], "worker")


@pytest.fixture(scope="module")
def fork(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fork with the SDK of one provider."""
    return machine.fork(machine.kit, tmp_path_factory.mktemp("provider") / "my-agent")


@pytest.mark.parametrize(
    "command, line, package",
    [
        (RUN, '"openai:gpt-6-luna",', "openai"),
        (WORKER, '"openai-chat:qwen3", base_url="http://127.0.0.1:9/v1",', "openai"),
        (RUN, '"google:gemini-3.8-flash",', "google-genai"),
        (WORKER, f'{MODEL} fallback=["groq:openai/gpt-oss-120b"],', "groq"),
    ],
)
def test_missing_sdk(
    machine: Machine, fork: Path, command: tuple[str, ...], line: str, package: str
) -> None:
    """`run` and `worker` name the model, and the command that installs its SDK in this fork."""
    hooks = fork / "agent" / "hooks.py"
    theirs = hooks.read_text(encoding="utf-8")
    keys = dict.fromkeys(
        ("ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GROQ_API_KEY", "OPENAI_API_KEY"), "x"
    )
    try:
        hooks.write_text(theirs.replace(MODEL, line), encoding="utf-8")
        process = machine.start(fork, *command, **keys)
        out, err = process.communicate(timeout=60)
    finally:
        hooks.write_text(theirs, encoding="utf-8")
    assert process.returncode == 1
    assert out == ""
    assert err.startswith("error: ")
    assert f"SDK that is not installed: uv add '{package}<" in err
    assert not (fork / "runs.db").exists()
