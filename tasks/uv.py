"""uv commands, as argvs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.git import Argv


def sync(project: Path) -> Argv:
    """Install a locked project into the environment that UV_PROJECT_ENVIRONMENT names."""
    return ["uv", "sync", "--quiet", "--frozen", "--no-dev", "--project", str(project)]


def export(project: Path) -> Argv:
    """Print a project's lock as pinned requirements."""
    return ["uv", "export", "--quiet", "--frozen", "--no-dev", "--no-hashes", "--no-header",
            "--no-annotate", "--project", str(project)]  # fmt: skip


def venv(path: Path, python: str) -> Argv:
    """Make an empty environment that may be moved."""
    return ["uv", "venv", "--quiet", "--relocatable", "--python", python, str(path)]


def install(environment: Path, requirements: Sequence[Path], *, overrides: Path) -> Argv:
    """Install pinned requirements; where two files pin a package, the overrides win."""
    argv = ["uv", "pip", "install", "--quiet", "--python", str(environment / "bin" / "python")]
    for file in requirements:
        argv += ["--requirements", str(file)]
    return [*argv, "--overrides", str(overrides)]
