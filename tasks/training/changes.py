"""Find out whether the pipeline has changed at a commit, without asking DVC again.

DVC takes a second and a half of CPU to compare a commit with its `dvc.lock`. The result is the same
each time, so it is kept on this host. Changes of parameters and code show in the hashes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from tasks.core.caches import mark_used
from tasks.core.fast_yaml import read_yaml
from tasks.core.fingerprint import file_digest, fingerprint
from tasks.core.settings import Settings
from tasks.repository import git
from tasks.repository.workspace import Workspace

_LARGEST_FILE = 1 << 20  # code and parameters; data are left to DVC
# Commits that this process has made by running their pipeline, and the stage up to which it ran.
_reproduced: set[tuple[str, str]] = set()


def note_reproduced(commit: str, until: str) -> None:
    """Note that this run has just brought the pipeline of a commit up to date.

    Not for other runs: a stage may be of those that DVC runs each time.
    """
    _reproduced.add((commit, until))


async def note_unchanged(workspace: Workspace, until: str) -> None:
    """Note that DVC would run no stage at the workspace's commit, up to one.

    Not if a stage reads something else than the commit, such as a URL: that may change.
    """
    if not _reads_elsewhere(workspace.path) and await _is_as_committed(workspace):
        file = _note(workspace, until)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


async def is_known_unchanged(workspace: Workspace, until: str) -> bool:
    """Check that the pipeline is up to date, up to a stage, as this host has found earlier."""
    file = _note(workspace, until)
    known = (workspace.commit, until) in _reproduced or file.exists()
    if not (known and await _is_as_committed(workspace)):
        return False
    if file.exists():
        mark_used(file)
    return True


async def _is_as_committed(workspace: Workspace) -> bool:
    """Check that nothing was overridden or refreshed."""
    await workspace.git(git.reread())
    return not (await workspace.git(git.compare(workspace.commit, ["."]), ok=(0, 1))).code


def _reads_elsewhere(folder: Path) -> bool:
    paths = [
        str(dependency["path"])
        for stage in _read_stages(folder).values()
        for dependency in stage.get("deps", [])
    ]
    return any("://" in path or _is_outside(PurePosixPath(path)) for path in paths)


def _read_stages(folder: Path) -> dict[str, dict[str, Any]]:
    lock = folder / "dvc.lock"
    content = read_yaml(lock.read_text()) if lock.is_file() else None
    return (content or {}).get("stages") or {}


def _is_outside(path: PurePosixPath) -> bool:
    return path.is_absolute() or ".." in path.parts


def _note(workspace: Workspace, until: str) -> Path:
    # Another DVC may compare in another way.
    return Settings().up_to_date / fingerprint(workspace.commit, until, version("dvc"))


def is_certainly_changed(folder: Path, until: str) -> bool:
    """Check for a stage, up to one, whose code or parameters are not those of its last run.

    Args:
        folder: The workspace.
        until: Name of a stage.

    Returns:
        True if DVC would certainly run a stage; False if only DVC knows.
    """
    try:
        # A stage may have paths that begin at a folder of its own, or be told not to run.
        pipeline = (folder / "dvc.yaml").read_text()
        is_plain = not any(word in pipeline for word in ("wdir", "frozen"))
        return is_plain and _has_other_hash(folder, until)
    # DVC says what is wrong with it.
    except (AttributeError, KeyError, OSError, TypeError, ValueError, yaml.YAMLError):
        return False


def _has_other_hash(folder: Path, until: str) -> bool:
    stages = _read_stages(folder)
    if until not in stages:
        return True
    outputs = {str(out["path"]): out for stage in stages.values() for out in stage.get("outs", [])}
    for name in _list_upstream(stages, until):
        for dependency in stages[name].get("deps", []):
            path = PurePosixPath(str(dependency["path"]))
            if str(path) in outputs:
                now = outputs[str(path)].get("md5")
            elif _is_outside(path):  # the commit could name what never ends
                continue
            elif (file := folder / path).is_file() and file.stat().st_size <= _LARGEST_FILE:
                now = file_digest(file, "md5")
            else:
                continue
            if now != dependency.get("md5"):
                return True
    return False


def _list_upstream(stages: Mapping[str, Mapping[str, Any]], until: str) -> Iterator[str]:
    """Yield a stage, and those whose outputs it reads."""
    waiting, known = [until], {until}
    while waiting:
        name = waiting.pop()
        yield name
        paths = [PurePosixPath(str(item["path"])) for item in stages[name].get("deps", [])]
        for other, stage in stages.items():
            outputs = [PurePosixPath(str(out["path"])) for out in stage.get("outs", [])]
            if other not in known and any(
                path.is_relative_to(o) for path in paths for o in outputs
            ):
                known.add(other)
                waiting.append(other)
