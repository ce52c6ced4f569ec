"""Likeness of a commit's model to that of another commit, by what Git has of both."""

from __future__ import annotations

from typing import Any

from tasks.core.yaml12 import YAMLError, load_yaml
from tasks.package.package import read_at
from tasks.repository import git
from tasks.repository.workspace import Workspace
from tasks.training.rules import PARAMETERS

# What divides the rows into those to train on and those to test on.
_SPLITTING = ("model/process.py", "model/splits.py", "model/split_rule.py")
_SPLIT_KEYS = ("split", "test_size")


async def is_same_model(workspace: Workspace, commit: str) -> bool:
    """Check that a workspace has the same model as a commit: file, packages, code of its own.

    Args:
        workspace: The workspace.
        commit: The other commit.
    """
    files = [f"model/{workspace.model}{suffix}" for suffix in (".mlem", ".runtime.json")]
    for path in files:
        text = await read_at(workspace, "", path)
        if not text or text != await read_at(workspace, commit, path):
            return False
    return await _has_same(workspace, commit, ("model/custom",))


async def is_split_new(workspace: Workspace, commit: str) -> bool:
    """Check whether the rows are divided by another rule, or other code, than at a commit.

    Args:
        workspace: The workspace.
        commit: The other commit.
    """
    rules = [_read_rule(await read_at(workspace, place, PARAMETERS)) for place in ("", commit)]
    return rules[0] != rules[1] or not await _has_same(workspace, commit, _SPLITTING)


def _read_rule(parameters: str) -> Any:
    try:
        values = load_yaml(parameters)
        return values.get("seed"), *(values["data"].get(key) for key in _SPLIT_KEYS)
    except (YAMLError, KeyError, AttributeError, TypeError):
        return None


async def _has_same(workspace: Workspace, commit: str, paths: tuple[str, ...]) -> bool:
    compared = await workspace.git(git.compare(commit, paths), ok=(0, 1))
    return compared.code == 0
