"""Targets: a result is published in one move, and refused where there is one already."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.bucket.bucket import AbsentObject, Bucket, explaining_errors
from tasks.bucket.requests import list_objects
from tasks.core.errors import ConfigurationError, TerminalError
from tasks.runs.retrying import capability
from tasks.scoring.jobs import Job
from tasks.scoring.places import STATE, Place
from tasks.scoring.tables import has_table, load_rows

MANIFEST = "manifest.json"
_PART = re.compile(r"(rejected/)?part-\d{5,}\.(csv|parquet)")
_REJECTED = "rejected"
_HOURS = 6 * 3600.0


async def require_absent(place: Place, bucket: Bucket | None, folder: Path) -> None:
    """Refuse a target that exists.

    Raises:
        ConfigurationError: It does.
    """
    if place.kind == "database":
        exists = await has_table(place, folder)
    elif place.kind == "bucket":
        assert bucket is not None
        exists = await asyncio.to_thread(_has_object, bucket, _marker(place))
    else:
        path = place.path
        exists = path.exists() and not (path.is_dir() and not any(path.iterdir()))
        # Else somebody's folder of that name would be replaced.
        exists |= bool(place.ending) and _beside(path).exists()
    if exists:
        raise _exists(place)


def _exists(place: Place) -> ConfigurationError:
    return ConfigurationError(
        f"target {place} exists",
        state=STATE,
        next_step="name another target, or set `overwrite`",
    )


def list_parts(job: Job) -> dict[str, Path]:
    """List the files of a result by their names below the target.

    Raises:
        TerminalError: Code of the model has put something else there, such as a link.
    """
    result = job.work / "result"
    files = {
        path.relative_to(result).as_posix(): path
        for path in sorted(result.rglob("*"))
        if path.is_symlink() or not path.is_dir()
    }
    for name, path in files.items():
        if not _PART.fullmatch(name) or path.is_symlink() or not path.is_file():
            raise TerminalError(
                f"the model's code has written {name} among the parts of the result",
                state="nothing was published",
                next_step="score with a version whose code does not",
            )
    return files


@capability("publish", run_name="publish {place}", timeout=_HOURS)
async def publish(
    place: Place, bucket: Bucket | None, job: Job, manifest: Mapping[str, Any], *, overwrite: bool
) -> None:
    """Publish the result of a job in one move.

    Args:
        place: The target.
        bucket: The bucket, with the right to write.
        job: The job.
        manifest: Facts about the result.
        overwrite: Whether to replace a target that exists.

    Raises:
        ConfigurationError: The target exists.
        TransientError: The bucket or the database cannot be reached.
    """
    files = list_parts(job)
    facts = json.dumps({**manifest, "files": sorted(files)}, indent=1) + "\n"
    if place.kind == "database":
        return await load_rows(place, job.work / "result", overwrite=overwrite)
    if not overwrite:
        await require_absent(place, bucket, job.folder)
    single = job.work / f"single{place.ending}"
    if place.ending and (single.is_symlink() or not single.is_file()):
        raise TerminalError(
            f"the model's code has removed {single.name}",
            state="nothing was published",
            next_step="score with a version whose code does not",
        )
    if place.kind == "bucket":
        assert bucket is not None
        move = _send_file if place.ending else _send_folder
        return await asyncio.to_thread(move, place, bucket, job, files, facts)
    await asyncio.to_thread(
        _place_file if place.ending else _place_folder, place.path, job, files, facts
    )


def _place_folder(target: Path, job: Job, files: Mapping[str, Path], facts: str) -> None:
    staged = _copy(files, target.with_name(f".{target.name}.{job.key}"))
    (staged / MANIFEST).write_text(facts)
    former = target.with_name(f".{target.name}.{job.key}.former")
    shutil.rmtree(former, ignore_errors=True)
    if target.exists() and any(target.iterdir()):
        target.rename(former)  # nobody ever sees parts of both
    staged.rename(target)
    shutil.rmtree(former, ignore_errors=True)


def _place_file(target: Path, job: Job, files: Mapping[str, Path], _: str) -> None:
    rejected = {name: path for name, path in files.items() if name.startswith(_REJECTED)}
    beside = _beside(target)
    shutil.rmtree(beside, ignore_errors=True)
    if rejected:
        staged = _copy(rejected, target.with_name(f".{beside.name}.{job.key}"))
        (staged / _REJECTED).rename(beside)
        staged.rmdir()
    staged_file = target.with_name(f".{target.name}.{job.key}")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(job.work / f"single{target.suffix}", staged_file)
    staged_file.replace(target)  # last: where it is, its rejected rows are


def _beside(target: Path) -> Path:
    """Return the folder for the rejected rows of a result that is one file."""
    return target.with_name(f"{target.name.removesuffix(target.suffix)}.{_REJECTED}")


def _copy(files: Mapping[str, Path], folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, path in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(path, folder / name)
    return folder


def _marker(place: Place) -> str:
    """Return the key of the object that is written last: where it is, the result is whole."""
    return place.key if place.ending else f"{place.key}/{MANIFEST}"


def _send_folder(
    place: Place, bucket: Bucket, job: Job, files: Mapping[str, Path], facts: str
) -> None:
    """Send parts below a prefix of the run's own; then a manifest that names them."""
    own = _name_run(job)
    prefix = f"{place.key}/{own}"
    _send(bucket, files, prefix)
    content = json.loads(facts)
    content["files"] = [f"{own}/{name}" for name in content["files"]]
    body = json.dumps(content, indent=1).encode()
    with explaining_errors(bucket):
        bucket.store.put(_marker(place), body, "application/json")
    _remove_others(bucket, f"{place.key}/run=", prefix)


def _send_file(place: Place, bucket: Bucket, job: Job, files: Mapping[str, Path], _: str) -> None:
    """Send rejected rows beside the file, below a prefix of the run's own; then the file."""
    beside = f"{place.key.removesuffix(place.ending)}.{_REJECTED}"
    prefix = f"{beside}/{_name_run(job)}"
    rejected = {path.name: path for name, path in files.items() if name.startswith(_REJECTED)}
    _send(bucket, rejected, prefix)
    single = job.work / f"single{place.ending}"
    with explaining_errors(bucket):
        bucket.store.send(place.key, single, {})
    _remove_others(bucket, f"{beside}/run=", prefix)


def _name_run(job: Job) -> str:
    """Name a folder of this run's own: it never writes among what another has published."""
    start = job.read_start()
    assert start is not None
    return f"run={start.identity}"


def _remove_others(bucket: Bucket, beginning: str, prefix: str) -> None:
    """Remove what former runs have put below their own prefixes."""
    with explaining_errors(bucket):
        for stored in list_objects(bucket, beginning):
            if not stored.key.startswith(f"{prefix}/"):
                bucket.store.delete(stored.key)


def _send(bucket: Bucket, files: Mapping[str, Path], prefix: str) -> None:
    with explaining_errors(bucket):
        for name, path in files.items():
            bucket.store.send(f"{prefix}/{name}", path, {})


def _has_object(bucket: Bucket, key: str) -> bool:
    try:
        with explaining_errors(bucket):
            bucket.store.head(key)
    except AbsentObject:
        return False
    return True
