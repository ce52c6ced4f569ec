"""Transfer of a commit's objects to the bucket and back, verified.

They lie where DVC's own commands put and find them. Those are not used: outside of the sandbox they
would follow the commit's `.dvc/config`, which can name a program that they run for credentials.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Concatenate, ParamSpec

from tasks.bucket import private_cache
from tasks.bucket.bucket import AbsentObject, Bucket, load_bucket, storage_options
from tasks.bucket.objects import StoredObject, outputs_of
from tasks.bucket.placement import copy_files, list_copies
from tasks.bucket.requests import download, fetch_object, read_object, send_object
from tasks.bucket.stores.base.store import CONNECTIONS
from tasks.bucket.verification import Verifier
from tasks.core import commands
from tasks.core.errors import TerminalError, TransientError
from tasks.core.fingerprint import file_digest
from tasks.core.settings import Settings
from tasks.core.threads import in_thread
from tasks.repository.workspace import Workspace
from tasks.runs.artifacts import Progress, artifact_key
from tasks.runs.retrying import capability

P = ParamSpec("P")

_TRANSFER_SECONDS = 1800.0


@capability("restore", run_name="restore {workspace.label}", timeout=_TRANSFER_SECONDS + 60)
async def restore(workspace: Workspace, *, sources: bool) -> None:
    """Restore the commit's outputs in the workspace, from this host's cache, else the bucket.

    An output that neither has is left out: the pipeline makes it again.

    Args:
        workspace: The workspace at the commit.
        sources: Restore only data that no stage makes (`.dvc` files), or outputs of stages too.

    Raises:
        TransientError: The bucket is needed and cannot be reached.
        TerminalError: The bucket is needed and denies access.
    """
    outputs = [
        stored
        for stored in await outputs_of(workspace)
        if stored.target.endswith(".dvc") or not sources
    ]
    cache = Settings().dvc_cache
    private_cache.configure(workspace, cache)  # where data that are added now are kept
    if not all(stored.is_cached(cache) for stored in outputs):
        await _fetch(await load_bucket("read"), cache, outputs)
    copies = await asyncio.to_thread(lambda: [*list_copies(cache, outputs)])
    if copies:
        await copy_files(workspace, copies, _TRANSFER_SECONDS)


@capability("upload", run_name="upload {workspace.label}", timeout=_TRANSFER_SECONDS + 600)
async def upload(workspace: Workspace) -> list[StoredObject]:
    """Upload every object of the commit to the bucket and verify all of them.

    An object that the bucket has is not sent again, unless its content is wrong.

    Args:
        workspace: The workspace at the commit.

    Returns:
        The commit's objects, all of them in the bucket.

    Raises:
        TransientError: The bucket cannot be reached or answers with errors.
        TerminalError: The bucket denies access, or neither it nor this host has an object.
    """
    bucket, cache = await load_bucket("read-write"), Settings().dvc_cache
    objects = await _with_members(bucket, await outputs_of(workspace))
    verifier = Verifier(bucket, cache)
    key = artifact_key(workspace.model, "upload")
    async with Progress(key, f"Upload of {workspace.label}") as progress:
        faults = await verifier.find_faults(objects)
        log = commands.run_logger()
        if not faults:
            log.info("all %d objects are in %s", len(objects), bucket.url)
            return objects
        await progress.set(10)
        await asyncio.to_thread(_require_here, cache, list(faults))
        for stored in (stored for stored, why in faults.items() if why != "missing"):
            log.warning("replacing %s: wrong content in the bucket", stored.path)
        options = storage_options(workspace, bucket)
        # A listing after its files: who sees it may expect them.
        for folders in (False, True):
            missing = [stored for stored in faults if stored.is_folder == folders]
            await for_each(missing, send_object, bucket, cache, options)
        await progress.set(80)
        faults = await verifier.find_faults(objects)
        if faults:
            stored, why = next(iter(faults.items()))
            raise TransientError(
                f"after the upload, {len(faults)} of {len(objects)} objects in {bucket.url} are"
                f" wrong; the first is {stored.path}: {why}",
                state="nothing was published; origin is unchanged",
                next_step="run push again; it sends missing objects and replaces wrong ones",
            )
    log.info("%d objects verified in %s", len(objects), bucket.url)
    return objects


@capability("pull", run_name="pull {workspace.label}", timeout=_TRANSFER_SECONDS + 60)
async def pull(workspace: Workspace, path: str, md5: str) -> Path:
    """Download one output of the commit from the bucket, bypassing this host's cache.

    Args:
        workspace: The workspace at the commit.
        path: Path of the output, a file.
        md5: Its hash in `dvc.lock`.

    Returns:
        The file in the workspace; the caller compares it with its hash in Git.

    Raises:
        TransientError: The bucket cannot be reached or answers with errors.
        TerminalError: The bucket denies access, or lacks the object.
    """
    bucket = await load_bucket("read")
    file = workspace.path / path
    try:
        await asyncio.to_thread(download, bucket, StoredObject(md5, None, path, path), file)
    except AbsentObject as error:
        raise TerminalError(
            f"{path} at {workspace.commit[:7]} is not in the bucket: {bucket.url} has no"
            f" object {md5}",
            state="nothing was released; the live model is unchanged",
            next_step=f"run the push flow at {workspace.commit[:7]} on the host that trained"
            " the model",
        ) from error
    return file


async def _fetch(bucket: Bucket, cache: Path, outputs: Sequence[StoredObject]) -> None:
    """Download what this host's cache lacks, except what the bucket lacks as well."""

    def absent(objects: Iterable[StoredObject]) -> list[StoredObject]:
        missing = [stored for stored in objects if not (cache / stored.key).is_file()]
        return list({stored.md5: stored for stored in missing}.values())

    await for_each(absent(outputs), fetch_object, bucket, cache)
    listings = [(stored, cache / stored.key) for stored in outputs if stored.is_folder]
    members = [
        member
        for stored, file in listings
        if file.is_file()
        for member in stored.members(file.read_bytes())
    ]
    await for_each(absent(members), fetch_object, bucket, cache)


async def for_each(
    objects: Iterable[StoredObject],
    transfer: Callable[Concatenate[StoredObject, P], None],
    *args: P.args,
    **kwargs: P.kwargs,
) -> None:
    """Transfer objects, some of them at once; the first error ends it."""
    waiting = iter(objects)

    async def work() -> None:
        for stored in waiting:
            await in_thread(transfer, stored, *args, **kwargs)

    workers = [asyncio.ensure_future(work()) for _ in range(CONNECTIONS)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def _with_members(bucket: Bucket, outputs: Sequence[StoredObject]) -> list[StoredObject]:
    """List every object once: the outputs, and the members of folders."""
    objects = {stored.md5: stored for stored in outputs}
    for folder in [stored for stored in outputs if stored.is_folder]:
        objects |= {member.md5: member for member in await list_members(folder, bucket)}
    return list(objects.values())


async def list_members(folder: StoredObject, bucket: Bucket | None = None) -> list[StoredObject]:
    """List the files of a folder, by its listing in this host's cache, else in the bucket.

    Args:
        folder: The listing.
        bucket: The bucket, if it is loaded already.

    Raises:
        TransientError: The bucket is needed and cannot be reached.
        TerminalError: The bucket is needed and denies access, or lacks the listing, too.
    """
    file = Settings().dvc_cache / folder.key
    if file.is_file():
        return folder.members(file.read_bytes())
    listing = await read_object(bucket or await load_bucket("read"), folder)
    if listing is None:
        raise _missing([folder])
    return folder.members(listing)


def _require_here(cache: Path, objects: Sequence[StoredObject]) -> None:
    """Raise unless the cache has each object, with the right content."""
    absent = [stored for stored in objects if not (cache / stored.key).is_file()]
    if absent:
        raise _missing(absent)
    for stored in objects:
        if file_digest(cache / stored.key, "md5") != stored.md5.removesuffix(".dir"):
            raise TerminalError(
                f"{stored.path} in this host's DVC cache is corrupt",
                state="it was not uploaded; origin is unchanged",
                next_step=f"delete {cache / stored.key} and run the train flow with force=true",
            )


def _missing(objects: Sequence[StoredObject]) -> TerminalError:
    names = ", ".join(stored.path for stored in objects[:5])
    own = any(stored.target.endswith(".dvc") for stored in objects)
    return TerminalError(
        f"{names}: neither in the bucket nor in this host's DVC cache",
        state="nothing was published; origin is unchanged",
        next_step="run `dvc push` on the host where the data were added"
        if own
        else "run the train and save flows with force=true to make them again",
    )
