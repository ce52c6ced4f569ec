"""The source as it was when a job began: its files, and what tells that one has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tasks.bucket.bucket import AbsentObject, Bucket
from tasks.bucket.requests import download_content, list_objects
from tasks.core.errors import ConfigurationError, DataRejected
from tasks.scoring.places import CSV, PACKED_CSV, PARQUET, STATE, Place
from tasks.scoring.tables import run_query

_ENDINGS = (CSV, PACKED_CSV, PARQUET)
_REJECTED = "rejected"  # folder of a former result, which has no rows for a model


@dataclass(frozen=True)
class Snapshot:
    """The files of a source.

    Attributes:
        place: The source.
        states: What tells that a file has changed, by its name in results.
    """

    place: Place
    states: Mapping[str, str]

    @property
    def is_parquet(self) -> bool:
        """True if the files are Parquet, not CSV."""
        return any(name.endswith(PARQUET) for name in self.states)


async def take_snapshot(place: Place, bucket: Bucket | None) -> Snapshot:
    """List the files of a source with their states.

    The rows of a table are fixed when its query has run; nothing tells here whether it has changed.

    Raises:
        ConfigurationError: There is no such source, or its files are of several formats.
        TransientError: The bucket cannot be reached.
    """
    if place.kind == "database":
        return Snapshot(place, {f"{place.table}{CSV}": ""})
    if place.kind == "bucket":
        assert bucket is not None
        states = await asyncio.to_thread(lambda: dict(_list_objects(place, bucket)))
    else:
        states = dict(_list_files(place))
    names = sorted(states)
    if not names:
        raise _refuse(place, f"there is no file of {', '.join(_ENDINGS)}")
    if len({name.endswith(PARQUET) for name in names}) > 1:
        raise _refuse(place, "its files are of different formats")
    return Snapshot(place, {name: states[name] for name in names})


async def bring_files(snapshot: Snapshot, bucket: Bucket | None, folder: Path) -> dict[str, Path]:
    """Bring the files of a source to this host; what is there already is not brought again.

    Args:
        snapshot: The source.
        bucket: The bucket.
        folder: Folder of the job.

    Returns:
        Path of each file, by its name.

    Raises:
        DataRejected: A file has changed since.
        TransientError: The bucket or the database cannot be reached.
    """
    place = snapshot.place
    if place.kind == "local":
        base = place.path if place.path.is_dir() else place.path.parent
        return {name: base / name for name in snapshot.states}
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for number, name in enumerate(snapshot.states):
        suffix = next(ending for ending in _ENDINGS[::-1] if name.endswith(ending))
        file, partial = folder / f"{number:05}{suffix}", folder / "partial"
        files[name] = file
        if file.is_file():
            continue
        if place.kind == "database":
            await run_query(place, partial)
        else:
            assert bucket is not None
            await asyncio.to_thread(_download, snapshot, name, bucket, partial)
        partial.replace(file)
    return files


def require_unchanged(snapshot: Snapshot) -> None:
    """Refuse a source whose files have changed since the job began.

    Files of the bucket are read once, with their state as a condition, so they need no look.

    Raises:
        DataRejected: One has.
    """
    if snapshot.place.kind == "local":
        states = dict(_list_files(snapshot.place))
        for name, state in snapshot.states.items():
            if states.get(name) != state:
                raise changed(snapshot.place, name)


def changed(place: Place, name: str) -> DataRejected:
    """Make the error of a source that has changed."""
    return DataRejected(
        f"{name} of source {place} has changed since the run began to read it",
        state="nothing was published",
        next_step="run the flow again once nobody writes to the source",
    )


def _list_files(place: Place) -> Iterator[tuple[str, str]]:
    path = place.path
    folder = path if path.is_dir() else path.parent
    files = [path] if path.is_file() else sorted(path.rglob("*")) if path.is_dir() else []
    for file in files:
        # A link would lead out of the places that the worker may read.
        if file.name.endswith(_ENDINGS) and file.is_file() and not file.is_symlink():
            name = file.relative_to(folder)
            if _REJECTED not in name.parts and not any(part[0] == "." for part in name.parts):
                state = file.stat()
                yield name.as_posix(), f"{state.st_size} {state.st_mtime_ns} {state.st_ino}"


def _list_objects(place: Place, bucket: Bucket) -> Iterator[tuple[str, str]]:
    prefix = f"{place.key}/" if not place.ending else place.key
    for stored in list_objects(bucket, prefix):
        name = PurePosixPath(stored.key).relative_to(place.key_folder)
        is_right = stored.key == place.key or not place.ending
        if is_right and name.name.endswith(_ENDINGS) and _REJECTED not in name.parts:
            yield name.as_posix(), stored.etag


def _download(snapshot: Snapshot, name: str, bucket: Bucket, file: Path) -> None:
    place = snapshot.place
    try:
        download_content(bucket, f"{place.key_folder}/{name}", snapshot.states[name], file)
    except AbsentObject:
        raise changed(place, name) from None


def _refuse(place: Place, problem: str) -> ConfigurationError:
    return ConfigurationError(
        f"source {place} cannot be read: {problem}",
        state=STATE,
        next_step="correct the parameter `source`, then run the flow again",
    )
