"""Transfer of a commit's objects to the bucket and back with DVC, verified."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path

from tasks.bucket import dvc
from tasks.bucket.bucket import (
    CONNECTIONS,
    AbsentObject,
    Bucket,
    configure_dvc,
    explain,
    explaining_s3_errors,
    load_bucket,
    transfer_failed,
)
from tasks.bucket.objects import StoredObject, outputs_of
from tasks.core import commands
from tasks.core.errors import TerminalError, TransientError
from tasks.core.fingerprint import file_digest
from tasks.core.settings import Settings
from tasks.repository.workspace import Workspace
from tasks.runs.artifacts import Progress, artifact_key
from tasks.runs.retrying import capability

_TRANSFER_SECONDS = 1800.0
_READ_BYTES = 1 << 20


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
    bucket, cache = await load_bucket("read"), Settings().dvc_cache
    configure_dvc(workspace, bucket, cache)  # before the first commit too: stages fill the cache
    if not outputs:
        return
    targets = sorted({stored.target for stored in outputs})
    argv, variables = dvc.checkout(targets), dvc.variables(workspace)
    if not all(stored.is_cached(cache) for stored in outputs):
        argv = dvc.pull_available(bucket.remote, targets)
        variables.update(bucket.environment)
    result = await commands.run(argv, timeout=_TRANSFER_SECONDS, cwd=workspace.path, env=variables)
    if result.code:
        raise await transfer_failed(bucket, result)


@capability("upload", run_name="upload {workspace.label}", timeout=_TRANSFER_SECONDS + 600)
async def upload(workspace: Workspace) -> list[StoredObject]:
    """Upload every object of the commit to the bucket with `dvc push`, and verify all of them.

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
    configure_dvc(workspace, bucket, cache)
    objects = await _with_members(bucket, cache, await outputs_of(workspace))
    key = artifact_key(workspace.model, "upload")
    async with Progress(key, f"Upload of {workspace.label}") as progress:
        faults = await _faults(bucket, objects)
        if not faults:
            commands.run_logger().info("all %d objects are in %s", len(objects), bucket.url)
            return objects
        await progress.set(10)
        await asyncio.to_thread(_require_here, cache, list(faults))
        # DVC only checks that a key exists, so objects with wrong content have to go first.
        await _delete(bucket, [stored for stored, why in faults.items() if why != "missing"])
        result = await commands.run(
            dvc.push(bucket.remote, sorted({stored.target for stored in objects})),
            timeout=_TRANSFER_SECONDS,
            cwd=workspace.path,
            env={**dvc.variables(workspace), **bucket.environment},
        )
        if result.code:
            raise await transfer_failed(bucket, result)
        await progress.set(80)
        faults = await _faults(bucket, objects)
        if faults:
            stored, why = next(iter(faults.items()))
            raise TransientError(
                f"after `dvc push`, {len(faults)} of {len(objects)} objects in {bucket.url} are"
                f" wrong; the first is {stored.path}: {why}",
                state="nothing was published; origin is unchanged",
                next_step="run push again; it sends missing objects and replaces wrong ones",
            )
    commands.run_logger().info("%d objects verified in %s", len(objects), bucket.url)
    return objects


@capability("pull", run_name="pull {workspace.label}", timeout=_TRANSFER_SECONDS + 60)
async def pull(workspace: Workspace, path: str, md5: str) -> Path:
    """Download one output of the commit from the bucket, bypassing this host's cache.

    Without DVC, which takes more than a second to start, for one object at a known key.

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
    file, key = workspace.path / path, _key(bucket, StoredObject(md5, None, path, path))

    def download() -> None:
        body = bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"]
        with file.open("wb") as opened:
            for chunk in body.iter_chunks(_READ_BYTES):
                opened.write(chunk)

    try:
        with explaining_s3_errors(bucket):
            await asyncio.to_thread(download)
    except AbsentObject as error:
        raise TerminalError(
            f"{path} at {workspace.commit[:7]} is not in the bucket: {bucket.url} has no"
            f" object {md5}",
            state="nothing was released; the live model is unchanged",
            next_step=f"run the push flow at {workspace.commit[:7]} on the host that trained"
            " the model",
        ) from error
    return file


async def read_object(bucket: Bucket, stored: StoredObject) -> bytes | None:
    """Read a small object; None if the bucket lacks it, or has other content under its key.

    Raises:
        TransientError: The bucket cannot be reached or answers with errors.
        TerminalError: The bucket denies access.
    """

    def read() -> bytes:
        body = bucket.client.get_object(Bucket=bucket.name, Key=_key(bucket, stored))["Body"]
        return bytes(body.read())

    try:
        with explaining_s3_errors(bucket):
            content = await asyncio.to_thread(read)
    except AbsentObject:
        return None
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return content if digest == stored.md5.removesuffix(".dir") else None


async def _with_members(
    bucket: Bucket, cache: Path, outputs: Sequence[StoredObject]
) -> list[StoredObject]:
    """List every object once: the outputs, and the members of folders."""
    objects = {stored.md5: stored for stored in outputs}
    for folder in [stored for stored in outputs if stored.is_folder]:
        file = cache / folder.key
        listing = file.read_bytes() if file.is_file() else await read_object(bucket, folder)
        if listing is None:
            raise _missing([folder])
        objects |= {member.md5: member for member in folder.members(listing)}
    return list(objects.values())


def _key(bucket: Bucket, stored: StoredObject) -> str:
    return f"{bucket.prefix}/{stored.key}".lstrip("/")


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


async def _faults(bucket: Bucket, objects: Sequence[StoredObject]) -> dict[StoredObject, str]:
    limit = asyncio.Semaphore(CONNECTIONS)

    async def check(stored: StoredObject) -> str | None:
        async with limit:
            return await asyncio.to_thread(_fault, bucket, stored)

    answers = await asyncio.gather(*map(check, objects))
    return {stored: why for stored, why in zip(objects, answers, strict=True) if why}


def _fault(bucket: Bucket, stored: StoredObject) -> str | None:
    """Describe the fault of an object in the bucket; return None if it is right."""
    key, md5 = _key(bucket, stored), stored.md5.removesuffix(".dir")
    try:
        with explaining_s3_errors(bucket):
            head = bucket.client.head_object(Bucket=bucket.name, Key=key)
            if stored.size is not None and head["ContentLength"] != stored.size:
                return f"size is {head['ContentLength']}, should be {stored.size}"
            # The ETag is the content's md5 unless it was uploaded in parts or encrypted with KMS.
            if head["ETag"].strip('"') == md5:
                return None
            digest = hashlib.md5(usedforsecurity=False)
            body = bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"]
            for chunk in body.iter_chunks(_READ_BYTES):
                digest.update(chunk)
            return None if digest.hexdigest() == md5 else f"md5 is {digest.hexdigest()}"
    except AbsentObject:
        return "missing"


async def _delete(bucket: Bucket, objects: Sequence[StoredObject]) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    for stored in objects:
        commands.run_logger().warning("replacing %s: wrong content in the bucket", stored.path)
        try:
            await asyncio.to_thread(
                bucket.client.delete_object, Bucket=bucket.name, Key=_key(bucket, stored)
            )
        except (ClientError, BotoCoreError) as error:
            raise explain(bucket, error) from error
