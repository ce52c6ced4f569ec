"""Likeness of a commit's model to that of another commit, by what Git has of both."""

from __future__ import annotations

from typing import NamedTuple

from tasks.core.yaml12 import YAMLError, load_yaml
from tasks.package.package import read_at
from tasks.repository import git
from tasks.repository.workspace import Workspace
from tasks.training.rules import PARAMETERS

# What divides the rows into those to train on and those to test on: the stage `process`, and how it
# is started.
_SPLITTING = (
    "dvc.yaml", "model/stage.sh", "model/stage_server.py", "model/process.py", "model/splits.py",
    "model/split_rule.py", "model/params.py", "model/sections.py", "model/files.py",
)  # fmt: skip
_MOVING = ("random", "time", "group")


class _Rule(NamedTuple):
    """The rule of a split: its kind, and all that it depends on."""

    kind: str
    text: str


async def is_same_model(workspace: Workspace, commit: str) -> bool:
    """Check that a workspace has the same model as a commit: file, packages, code of its own.

    Its golden predictions, too: preflight holds the code that serves it to them.

    Args:
        workspace: The workspace.
        commit: The other commit.
    """
    metadata = [
        f"model/{workspace.model}{suffix}" for suffix in (".mlem", ".runtime.json", ".golden.json")
    ]
    if not all((workspace.path / path).is_file() for path in metadata):
        return False
    return await _has_same(workspace, commit, (*metadata, "model/custom"))


async def keeps_sides(workspace: Workspace, commit: str) -> bool:
    """Check that rows which were tested on at a commit must not be trained on in a workspace.

    By some rules rows change sides when there are more of them: the newest are tested on, or others
    are drawn. By the others they stay, and so they have to where a person has changed the rule.

    Args:
        workspace: The workspace.
        commit: The other commit.
    """
    rules = [_read_rule(await read_at(workspace, place, PARAMETERS)) for place in ("", commit)]
    return (
        rules[0] != rules[1]
        or rules[0].kind not in _MOVING
        or not await _has_same(workspace, commit, _SPLITTING)
    )


def _read_rule(parameters: str) -> _Rule:
    """Read the rule of the split, and what else decides it."""
    try:
        values = load_yaml(parameters)
        data = values["data"]
        split, size = data.get("split"), data.get("test_size")
        kind = next(iter(split)) if isinstance(split, dict) else split
        kind = kind or ("random" if size is not None else "stable")
        return _Rule(kind, repr((split, size, values.get("seed"))))
    except (YAMLError, KeyError, AttributeError, TypeError, StopIteration):
        return _Rule("", "")


async def _has_same(workspace: Workspace, commit: str, paths: tuple[str, ...]) -> bool:
    compared = await workspace.git(
        git.compare(commit, paths), ok=(0, 1, 128)
    )  # 128: there is no such commit
    return compared.code == 0
