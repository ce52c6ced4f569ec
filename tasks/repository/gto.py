"""GTO commands as argvs: tags for model versions and for releases."""

from __future__ import annotations

from tasks.core.commands import Argv


def register(model: str, commit: str, message: str) -> Argv:
    """Tag a commit as the next version of a model."""
    return ["gto", "register", model, commit, "--message", message]


def assign(model: str, version: str, environment: str, message: str) -> Argv:
    """Tag a version as live in an environment."""
    return ["gto", "assign", model, "--version", version, "--stage", environment,
            "--simple", "false", "--force", "--message", message]  # fmt: skip
