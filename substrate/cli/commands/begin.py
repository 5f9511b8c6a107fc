"""How a command begins: what ``.env`` sets is set, and its coroutine is run."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import typer

from substrate.cli.environment import load_dotenv


def begin(
    command: Callable[..., Coroutine[None, None, int]], context: typer.Context, *given: Any
) -> int:
    """Run a command with what was typed; return its exit code."""
    load_dotenv(Path.cwd())
    return asyncio.run(command(context.obj, *given))
