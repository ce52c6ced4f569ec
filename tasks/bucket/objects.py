"""The objects that DVC stores for a commit, by hash."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import yaml

from tasks.core.errors import TerminalError
from tasks.core.fast_yaml import read_yaml
from tasks.repository import git

if TYPE_CHECKING:  # it imports Prefect, which not everything that knows objects needs
    from tasks.repository.workspace import Workspace

# It becomes a path in caches and in the bucket.
OBJECT_NAME = re.compile(r"[0-9a-f]{32}(\.dir)?")


@dataclass(frozen=True)
class StoredObject:
    """An object that a commit needs in the bucket.

    Attributes:
        md5: Hash of its content as DVC writes it; ends in `.dir` for the listing of a folder.
        size: Bytes; None if Git does not record it.
        path: The file in the workspace with this content.
        target: The DVC target of the file: a stage, or a `.dvc` file.
        is_program: Whether the file may be executed.
    """

    md5: str
    size: int | None
    path: str
    target: str
    is_program: bool = False

    @property
    def key(self) -> str:
        """Its path in a cache, and its key below a remote's URL (DVC's layout, version 3)."""
        return f"files/md5/{self.md5[:2]}/{self.md5[2:]}"

    @property
    def is_folder(self) -> bool:
        """True for the listing of a folder."""
        return self.md5.endswith(".dir")

    def members(self, listing: bytes) -> list[StoredObject]:
        """List the files of a folder.

        Args:
            listing: Content of this object.

        Raises:
            TerminalError: It is not what DVC writes, or names a file outside the folder.
        """
        try:
            members = [(str(entry["md5"]), str(entry["relpath"])) for entry in json.loads(listing)]
        except (ValueError, KeyError, TypeError) as error:
            raise _invalid(self.path, f"its listing cannot be read ({error!r})") from None
        for md5, relative in members:
            if not OBJECT_NAME.fullmatch(md5):
                raise _invalid(self.path, f"{md5!r} is no md5")
            if PurePosixPath(relative).is_absolute() or ".." in PurePosixPath(relative).parts:
                raise _invalid(self.path, f"{relative!r} is outside the folder")
        return [
            StoredObject(md5, None, f"{self.path}/{relative}", self.target)
            for md5, relative in members
        ]

    def is_cached(self, cache: Path) -> bool:
        """Check that a cache has it, with all members of a folder."""
        file = cache / self.key
        if not file.is_file():
            return False
        return not self.is_folder or all(
            member.is_cached(cache) for member in self.members(file.read_bytes())
        )


async def outputs_of(workspace: Workspace) -> list[StoredObject]:
    """List the outputs that DVC stores for the commit, from `dvc.lock` and every `.dvc` file.

    Args:
        workspace: The workspace at the commit.

    Returns:
        The objects; of a folder its listing alone.

    Raises:
        TerminalError: A file cannot be read, or an output has no hash.
    """
    tracked = set((await workspace.git(git.tracked_files())).stdout.split("\0"))
    folders = {str(parent) for path in tracked for parent in Path(path).parents}
    objects: list[StoredObject] = []
    if "dvc.lock" in tracked:
        places = _read_places(workspace) if "dvc.yaml" in tracked else {}
        for stage, entry in _read(workspace, "dvc.lock").get("stages", {}).items():
            place = places.get(stage.partition("@")[0], "")
            for out in entry.get("outs", []):
                path = os.path.normpath(Path(place, out["path"]))
                if path not in tracked | folders:  # Git has those with `cache: false`
                    objects.append(_stored(out, path, stage, "dvc.lock"))
    for file in sorted(path for path in tracked if path.endswith(".dvc")):
        if not (workspace.path / file).exists():
            continue  # set aside: no stage reads these data
        content = _read(workspace, file)
        if any("repo" in dependency for dependency in content.get("deps", [])):
            continue  # `dvc import`: the other repository stores it
        folder = Path(file).parent / content.get("wdir", "")
        objects += [
            _stored(out, os.path.normpath(folder / out["path"]), file, file)
            for out in content.get("outs", [])
        ]
    return objects


def _read_places(workspace: Workspace) -> dict[str, str]:
    """Return, for each stage in `dvc.yaml`, the folder that the paths of its outputs begin at."""
    places = {}
    for name, stage in (_read(workspace, "dvc.yaml").get("stages") or {}).items():
        body = stage.get("do", stage) if isinstance(stage, Mapping) else None
        places[name] = str(body.get("wdir", "")) if isinstance(body, Mapping) else ""
    return places


def _read(workspace: Workspace, name: str) -> dict[str, Any]:
    try:
        content = read_yaml((workspace.path / name).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise _unreadable(workspace, name, str(error)) from error
    if not isinstance(content, dict):
        raise _unreadable(workspace, name, "it holds no keys")
    return content


def _stored(out: Mapping[str, Any], path: str, target: str, name: str) -> StoredObject:
    if "md5" not in out:
        raise TerminalError(
            f"{name}: {path} has no md5, so DVC does not store it in the bucket",
            state="nothing was changed",
            next_step=f"run `dvc update {target}` (or `dvc add` it), and commit",
        )
    if not OBJECT_NAME.fullmatch(str(out["md5"])):
        raise _invalid(path, f"{out['md5']!r} is no md5")
    folder = out["md5"].endswith(".dir")  # its `size` is the sum of its members
    is_program = out.get("isexec") is True and not folder
    return StoredObject(
        out["md5"], None if folder else out.get("size"), path, target, is_program=is_program
    )


def _invalid(path: str, why: str) -> TerminalError:
    return TerminalError(
        f"DVC's record of {path} is invalid: {why}",
        state="nothing was changed",
        next_step="make the output again with `dvc repro` or `dvc add`, and commit",
    )


def _unreadable(workspace: Workspace, name: str, why: str) -> TerminalError:
    return TerminalError(
        f"{name} at {workspace.ref} cannot be read: {why}",
        state="nothing was changed",
        next_step=f"correct {name}, commit, and run the flow at that commit",
    )
