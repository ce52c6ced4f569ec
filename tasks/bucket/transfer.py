"""Object storage: bringing a commit's bytes into the bucket and back with DVC, with proof."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path

from tasks.bucket import dvc
from tasks.bucket.bucket import (
    ABSENT,
    CONNECTIONS,
    Remote,
    configure_dvc,
    explain,
    load_remote,
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
    """Bring what the commit keeps into the workspace: from this host's cache, else the bucket.

    What is neither here nor there is left out: the pipeline makes it again.

    Args:
        workspace: The workspace at the commit.
        sources: Bring only data that no stage makes (`.dvc` files), or what stages made too.

    Raises:
        TransientError: The bucket is needed and cannot be reached.
        TerminalError: The bucket is needed and refuses access.
    """
    outputs = [
        stored
        for stored in await outputs_of(workspace)
        if stored.target.endswith(".dvc") or not sources
    ]
    remote, cache = await load_remote("read"), Settings().dvc_cache
    configure_dvc(workspace, remote, cache)  # before the first commit too: stages fill the cache
    if not outputs:
        return
    targets = sorted({stored.target for stored in outputs})
    if all(stored.is_cached(cache) for stored in outputs):
        argv, secrets = dvc.checkout(targets), None
    else:
        argv, secrets = dvc.pull_what_is_there(remote.name, targets), remote.environment
    done = await commands.run(argv, timeout=_TRANSFER_SECONDS, cwd=workspace.path, env=secrets)
    if done.code:
        raise await transfer_failed(remote, done)


@capability("upload", run_name="upload {workspace.label}", timeout=_TRANSFER_SECONDS + 600)
async def upload(workspace: Workspace) -> list[StoredObject]:
    """Bring every object of the commit into the bucket with `dvc push`, and prove it.

    Objects that are there already, with the right content, are not sent again; one with a wrong
    content is replaced.

    Args:
        workspace: The workspace at the commit.

    Returns:
        The commit's objects, all of them in the bucket.

    Raises:
        TransientError: The bucket cannot be reached or answers with errors.
        TerminalError: The bucket refuses access, or bytes are nowhere to be found.
    """
    remote, cache = await load_remote("read-write"), Settings().dvc_cache
    configure_dvc(workspace, remote, cache)
    objects = await _with_members(remote, cache, await outputs_of(workspace))
    key = artifact_key(workspace.model, "upload")
    async with Progress(key, f"Upload of {workspace.label}") as progress:
        faults = await _faults(remote, objects)
        if not faults:
            commands.run_logger().info("all %d objects are in %s", len(objects), remote.url)
            return objects
        await progress.set(10)
        await asyncio.to_thread(_require_here, cache, list(faults))
        # DVC only looks whether a key exists: what is there with a wrong content has to go first.
        await _delete(remote, [stored for stored, why in faults.items() if why != "missing"])
        sent = await commands.run(
            dvc.push(remote.name, sorted({stored.target for stored in objects})),
            timeout=_TRANSFER_SECONDS,
            cwd=workspace.path,
            env=remote.environment,
        )
        if sent.code:
            raise await transfer_failed(remote, sent)
        await progress.set(80)
        faults = await _faults(remote, objects)
        if faults:
            stored, why = next(iter(faults.items()))
            raise TransientError(
                f"after `dvc push`, {len(faults)} of {len(objects)} objects are not right in"
                f" {remote.url}; first {stored.path}: {why}",
                state="nothing was published; origin is as it was",
                next_step="run push again; it sends what is missing and replaces what is wrong",
            )
    commands.run_logger().info("%d objects verified in %s", len(objects), remote.url)
    return objects


@capability("pull", run_name="pull {workspace.label}", timeout=_TRANSFER_SECONDS + 60)
async def pull(workspace: Workspace, target: str) -> Path:
    """Download one output of the commit from the bucket, past this host's cache.

    Args:
        workspace: The workspace at the commit.
        target: Path of the output.

    Returns:
        The file, in the workspace; the caller holds it against what Git says.

    Raises:
        TransientError: The bucket cannot be reached or answers with errors.
        TerminalError: The bucket refuses access or does not have the object.
    """
    remote = await load_remote("read")
    # A private cache: the bytes that get verified and served are the bucket's.
    configure_dvc(workspace, remote, workspace.path / ".dvc" / "cache", verify=False)
    got = await commands.run(
        dvc.pull(remote.name, [target]),
        timeout=_TRANSFER_SECONDS,
        cwd=workspace.path,
        env=remote.environment,
    )
    if got.code:
        raise await transfer_failed(remote, got)
    return workspace.path / target


async def _with_members(
    remote: Remote, cache: Path, outputs: Sequence[StoredObject]
) -> list[StoredObject]:
    """Every object, each once: the outputs, and the members of those that are folders."""
    objects = {stored.md5: stored for stored in outputs}
    for folder in [stored for stored in outputs if stored.is_folder]:
        file = cache / folder.key
        listing = file.read_bytes() if file.is_file() else await _read(remote, folder)
        objects |= {member.md5: member for member in folder.members(listing)}
    return list(objects.values())


async def _read(remote: Remote, stored: StoredObject) -> bytes:
    from botocore.exceptions import BotoCoreError, ClientError

    def read() -> bytes:
        return remote.client.get_object(Bucket=remote.bucket, Key=_key(remote, stored))[
            "Body"
        ].read()

    try:
        content = await asyncio.to_thread(read)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in ABSENT:
            raise _nowhere([stored]) from error
        raise explain(remote, error) from error
    except BotoCoreError as error:
        raise explain(remote, error) from error
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != stored.md5.removesuffix(".dir"):
        raise _nowhere([stored])
    return content


def _key(remote: Remote, stored: StoredObject) -> str:
    return f"{remote.prefix}/{stored.key}".lstrip("/")


def _require_here(cache: Path, objects: Sequence[StoredObject]) -> None:
    """Raise unless the cache has each object, with the right content."""
    absent = [stored for stored in objects if not (cache / stored.key).is_file()]
    if absent:
        raise _nowhere(absent)
    for stored in objects:
        if file_digest(cache / stored.key, "md5") != stored.md5.removesuffix(".dir"):
            raise TerminalError(
                f"{stored.path} in this host's DVC cache is not what it was when it was made",
                state="it was not uploaded; origin is as it was",
                next_step=f"delete {cache / stored.key} and run the train flow with force=true",
            )


def _nowhere(objects: Sequence[StoredObject]) -> TerminalError:
    names = ", ".join(stored.path for stored in objects[:5])
    own = any(stored.target.endswith(".dvc") for stored in objects)
    return TerminalError(
        f"{names}: neither in the bucket nor in this host's DVC cache",
        state="nothing was published; origin is as it was",
        next_step="run `dvc push` where the data were added"
        if own
        else "run the train and save flows with force=true to make them again",
    )


async def _faults(remote: Remote, objects: Sequence[StoredObject]) -> dict[StoredObject, str]:
    limit = asyncio.Semaphore(CONNECTIONS)

    async def check(stored: StoredObject) -> str | None:
        async with limit:
            return await asyncio.to_thread(_fault, remote, stored)

    answers = await asyncio.gather(*map(check, objects))
    return {stored: why for stored, why in zip(objects, answers, strict=True) if why}


def _fault(remote: Remote, stored: StoredObject) -> str | None:
    """What is wrong with an object in the bucket, None if nothing."""
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, key, md5 = remote.bucket, _key(remote, stored), stored.md5.removesuffix(".dir")
    try:
        head = remote.client.head_object(Bucket=bucket, Key=key)
        if stored.size is not None and head["ContentLength"] != stored.size:
            return f"size is {head['ContentLength']}, should be {stored.size}"
        # The ETag is the content's md5 unless it was uploaded in parts or encrypted with KMS.
        if head["ETag"].strip('"') == md5:
            return None
        digest = hashlib.md5(usedforsecurity=False)
        for chunk in remote.client.get_object(Bucket=bucket, Key=key)["Body"].iter_chunks(
            _READ_BYTES
        ):
            digest.update(chunk)
        return None if digest.hexdigest() == md5 else f"md5 is {digest.hexdigest()}"
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in ABSENT:
            return "missing"
        raise explain(remote, error) from error
    except BotoCoreError as error:
        raise explain(remote, error) from error


async def _delete(remote: Remote, objects: Sequence[StoredObject]) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    for stored in objects:
        commands.run_logger().warning("replacing %s: wrong content in the bucket", stored.path)
        try:
            await asyncio.to_thread(
                remote.client.delete_object, Bucket=remote.bucket, Key=_key(remote, stored)
            )
        except (ClientError, BotoCoreError) as error:
            raise explain(remote, error) from error
