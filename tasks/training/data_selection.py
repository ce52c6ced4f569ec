"""A run restores the data in `data/source/` that its stages read, and no other.

DVC takes the whole folder for one dependency of the first stage. So the records of other data are
set aside while DVC works, and for so long `dvc.lock` has the hash of what is left of the folder. At
the end it has that of the whole folder again, as in the checkout of a person who has all data.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ruamel.yaml import YAML

from tasks.bucket.objects import StoredObject, outputs_of
from tasks.bucket.transfer import list_members
from tasks.core import commands
from tasks.core.fast_yaml import read_yaml
from tasks.core.fingerprint import file_digest
from tasks.core.yaml12 import load_yaml
from tasks.repository import git
from tasks.repository.workspace import Workspace
from tasks.training import sources

_FOLDER = PurePosixPath(sources.FOLDER)


@dataclass(frozen=True)
class _Part:
    """Files of the folder, as DVC records them: their hash, their number, their bytes."""

    md5: str
    nfiles: int
    size: int


@asynccontextmanager
async def select_data(workspace: Workspace) -> AsyncIterator[None]:
    """Set the records of data that no stage reads aside; put them back at the end.

    Args:
        workspace: The workspace; its `dvc.lock` is written by stages meanwhile.

    Raises:
        TransientError: The bucket is needed, for the listing of a folder, and cannot be reached.
        TerminalError: Neither this host nor the bucket has the listing of a folder.
    """
    outputs = [
        output
        for output in await outputs_of(workspace)
        if all(PurePosixPath(path).is_relative_to(_FOLDER) for path in (output.target, output.path))
    ]
    paths = list(_list_used(workspace.path))
    used = {
        output.target for output in outputs if any(_overlap(output.path, path) for path in paths)
    }
    unused = [output for output in outputs if output.target not in used]
    if not unused:
        yield
        return
    commands.run_logger().info(
        "%s: not restored, since no stage reads it", ", ".join(output.path for output in unused)
    )
    whole, rest = await _describe_folder(workspace, outputs, unused)
    records, aside = {output.target for output in unused}, workspace.tool_cache / "unused"
    _move(records, workspace.path, aside)
    await asyncio.to_thread(_exchange, workspace.path / "dvc.lock", whole, rest)
    try:
        yield
    finally:
        _move(records, aside, workspace.path)
        await asyncio.to_thread(_exchange, workspace.path / "dvc.lock", rest, whole)


def _list_used(folder: Path) -> Iterator[str]:
    """Yield the paths that stages read: those of `params.yaml`, and other dependencies."""
    data = (load_yaml((folder / "params.yaml").read_text()) or {}).get("data")
    data = data if isinstance(data, Mapping) else {}
    yield str(data.get("source"))
    if isinstance(split := data.get("split"), Mapping):
        yield str(split.get("file"))
    for name in ("dvc.lock", "dvc.yaml"):
        stages = _read(folder / name).get("stages")
        for stage in stages.values() if isinstance(stages, Mapping) else []:
            yield from _list_dependencies(stage)


def _list_dependencies(stage: Any) -> Iterator[str]:
    stage = stage.get("do", stage) if isinstance(stage, Mapping) else {}
    if "wdir" in stage:
        yield str(_FOLDER)  # its paths are relative to another folder
    for dependency in stage.get("deps") or []:
        path = dependency
        if isinstance(dependency, Mapping):  # in dvc.yaml the path is a key
            path = dependency.get("path") or next(iter(dependency))
        if PurePosixPath(str(path)) != _FOLDER:
            yield str(path).partition("${")[0]  # empty, which is all, if only DVC knows the path


def _read(path: Path) -> dict[str, Any]:
    content = read_yaml(path.read_text()) if path.is_file() else None
    return content if isinstance(content, dict) else {}


def _overlap(path: str, other: str) -> bool:
    """Check that one path is the other, or within it."""
    first, second = PurePosixPath(path), PurePosixPath(other)
    return first.is_relative_to(second) or second.is_relative_to(first)


async def _describe_folder(
    workspace: Workspace, outputs: Sequence[StoredObject], unused: Sequence[StoredObject]
) -> tuple[_Part, _Part]:
    """Describe the whole folder, and the folder without the data that are not used."""
    tracked = (await workspace.git(git.tracked_files())).stdout.split("\0")
    own = [
        path
        for path in tracked
        if PurePosixPath(path).is_relative_to(_FOLDER) and (workspace.path / path).is_file()
    ]
    files = {path: file_digest(workspace.path / path, "md5") for path in own}
    aside = {stored.target for stored in unused}
    records = {stored.target for stored in outputs}
    for stored in outputs:
        members = await list_members(stored) if stored.is_folder else [stored]
        files |= {member.path: member.md5 for member in members}
        if stored in unused:
            aside |= {member.path for member in members}

    def describe(without: set[str]) -> _Part:
        size = sum((workspace.path / path).stat().st_size for path in own if path not in without)
        for record in records - without:
            size += sum(out.get("size", 0) for out in _read(workspace.path / record)["outs"])
        left = {path: md5 for path, md5 in files.items() if path not in without}
        return _Part(_hash(left), len(left), size)

    return describe(set()), describe(aside)


def _hash(files: Mapping[str, str]) -> str:
    """Hash the files of the folder as DVC does: the listing of their names and hashes."""
    entries = [
        {"md5": md5, "relpath": PurePosixPath(path).relative_to(_FOLDER).as_posix()}
        for path, md5 in files.items()
    ]
    listing = json.dumps(sorted(entries, key=lambda entry: entry["relpath"]))
    return f"{hashlib.md5(listing.encode(), usedforsecurity=False).hexdigest()}.dir"


def _move(names: Iterable[str], start: Path, end: Path) -> None:
    for name in names:
        (end / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(start / name, end / name)


def _exchange(lock: Path, part: _Part, other: _Part) -> None:
    """Replace a part of the folder by another where a stage of the lock depends on it."""
    if not lock.is_file():
        return
    document = YAML()  # it keeps the form in which DVC writes
    content = document.load(lock.read_text())
    dependencies = [
        dependency
        for stage in (content.get("stages") or {}).values()
        for dependency in stage.get("deps") or []
        if PurePosixPath(dependency["path"]) == _FOLDER and dependency.get("md5") == part.md5
    ]
    if dependencies:
        for dependency in dependencies:
            dependency.update(md5=other.md5, size=other.size, nfiles=other.nfiles)
        with lock.open("w") as file:
            document.dump(content, file)
