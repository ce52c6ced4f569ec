"""Checks of all that flow runs need, each by use."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from deployments.catalogue import block_variables
from deployments.catalogue.resources.blocks import notification_block
from deployments.diagnosis.finding import Finding, problem
from deployments.diagnosis.origin import run_git
from tasks.bucket.bucket import Bucket, explain, open_bucket
from tasks.bucket.stores.catalogue import find_kind
from tasks.core import secret_blocks
from tasks.core.errors import SlipwayError, TransientError
from tasks.core.settings import Settings
from tasks.platforms.base.settings import Environment, HostEnvironment
from tasks.repository import git

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

_APPLY = "slipway apply"
_NARROW = {
    "s3": "set SLIPWAY_S3_READ_KEY_ID to a key that can only read",
    "azure": "set SLIPWAY_AZURE_READ_CONNECTION_STRING to a signature that can only read and list,"
    " or give the identity the role Storage Blob Data Reader",
}
_CONTENT = b"put here by `slipway doctor`; may be deleted"


async def check_worker(client: PrefectClient, pool: str) -> Finding:
    """Check that a work pool exists and a worker of it is online."""
    from prefect.client.schemas.filters import WorkerFilter
    from prefect.exceptions import ObjectNotFound

    thing = f"worker of pool {pool}"
    online = WorkerFilter.model_validate({"status": {"any_": ["ONLINE"]}})
    try:
        await client.read_work_pool(pool)
    except ObjectNotFound:
        return Finding(thing, "the pool does not exist", _APPLY)
    workers = await client.read_workers_for_work_pool(pool, worker_filter=online)
    if not workers:
        return Finding(thing, "no worker is online", f"prefect worker start --pool {pool}")
    return Finding(thing, f"online: {', '.join(worker.name for worker in workers)}")


async def check_deployment(client: PrefectClient, name: str) -> AsyncIterator[Finding]:
    """Check that a deployment exists, is not paused, and a worker takes its runs.

    Args:
        client: The server.
        name: `flow/deployment`.
    """
    from prefect.exceptions import ObjectNotFound

    thing = f"deployment {name}"
    try:
        response = await client.read_deployment_by_name(name)
    except ObjectNotFound:
        yield Finding(thing, "it does not exist", _APPLY)
        return
    if response.paused:
        yield Finding(thing, "paused: its runs do not start", "resume it in the UI")
    else:
        yield Finding(thing, "it exists")
    yield await check_worker(client, str(response.work_pool_name))


async def check_lock(environment: Environment) -> Finding | None:
    """Check that locks work, by taking and releasing one with a throw-away name.

    Returns:
        The finding; None for an environment on its own host, which a file locks.
    """
    from tasks.release.locks.holder import Holder
    from tasks.release.locks.lock import lock_of

    if isinstance(environment, HostEnvironment):
        return None
    thing, probe = "lock", f"{environment.name}-probe-{uuid.uuid4().hex[:8]}"
    probe_lock = lock_of(environment.model_copy(update={"name": probe}))
    try:
        if not await probe_lock.take(Holder.this_run("nothing")):
            return Finding(
                thing, "it cannot be taken", "check that the server answers, then repeat"
            )
        async with probe_lock.keep():
            holder = await lock_of(environment).read_holder()
    except SlipwayError as error:
        return problem(thing, error)
    return Finding(thing, f"{environment.name} is held by {holder}" if holder else "it is free")


async def check_buckets() -> AsyncIterator[Finding]:
    """Check that the credentials of each bucket block have the rights they need, and no more."""
    settings = Settings()
    writer: Bucket | None = None
    for block in dict.fromkeys((settings.read_write_block, block_variables.RESULTS)):
        thing = _name_block(block)
        try:
            bucket = await open_bucket(block, "probe")
            await asyncio.to_thread(_write_and_read, bucket)
        except SlipwayError as error:
            yield problem(thing, error)
        else:
            writer = writer or bucket
            yield Finding(thing, f"{bucket.url}: can put, head, get and delete")
    yield await check_reader(writer)


async def check_reader(writer: Bucket | None = None) -> Finding:
    """Check that the credentials of deploys can read the bucket, and cannot write to it.

    Args:
        writer: A bucket that can write the object to read; without one, an existing object is read.
    """
    block = Settings().read_block
    thing = _name_block(block)
    try:
        bucket = await open_bucket(block, "probe")
        return await asyncio.to_thread(_only_read, bucket, writer, thing)
    except SlipwayError as error:
        return problem(thing, error)


async def check_secrets() -> AsyncIterator[Finding]:
    """Check the optional secret blocks that exist."""
    from prefect.blocks.system import Secret

    for name in secret_blocks.SECRETS:
        thing = f"block secret/{name}"
        try:
            secret: Any = await Secret.aload(name)
        except ValueError:
            yield Finding(thing, f"not set up; to set it up, set {secret_blocks.variable(name)}")
            continue
        if name == secret_blocks.GIT_TOKEN and Settings().origin.startswith("https://"):
            token = f"x-access-token:{secret.get()}".encode()
            header = f"Authorization: Basic {base64.b64encode(token).decode()}"
            settings = {"http.extraHeader": header}
            yield await run_git(
                thing, git.list_branches(Settings().origin), "accepts the token", settings
            )
        else:
            yield Finding(thing, "it exists")


async def check_notification(client: PrefectClient, *, send: bool) -> Finding:
    """Check that automations have a block to notify people with.

    Args:
        client: The server.
        send: Whether to send a message through it.
    """
    from prefect.blocks.core import Block

    document = await notification_block(client)
    if document is None:
        return Finding(
            f"block {block_variables.NOTIFY}",
            f"not set up; to be notified, set {block_variables.NOTIFY_VARIABLE}",
        )
    thing = f"block {document.block_type_name}/{block_variables.NOTIFY}"
    if not send:
        return Finding(thing, "it exists; `slipway doctor --notify` sends a message")
    block: Any = Block._from_block_document(document)
    try:
        await block.anotify("If you can read this, notifications work.", subject="Slipway")
    except Exception as error:  # a notification block of any type, with errors of its own
        return Finding(thing, f"cannot send: {type(error).__name__}", "correct the block in the UI")
    return Finding(thing, "sent a message")


def _write_and_read(bucket: Bucket) -> None:
    """Put, head, get and delete an object.

    Raises:
        TerminalError: The bucket denied one of them.
        TransientError: The bucket is unreachable, or returned other bytes.
    """
    store, key = bucket.store, _probe(bucket)
    try:
        store.put(key, _CONTENT)
        size = store.head(key).size
        content = store.open(key).read()
        store.delete(key)
    except store.errors as error:
        raise explain(bucket, error) from None
    if (size, content) != (len(_CONTENT), _CONTENT):
        raise TransientError(
            f"{bucket.url} returned other bytes than were put",
            state="the probe object was deleted",
            next_step="check the proxy between this host and the bucket, and the bucket's name",
        )


def _only_read(reader: Bucket, writer: Bucket | None, thing: str) -> Finding:
    """List and get objects, and expect that a put is denied."""
    store, key = reader.store, _probe(reader)
    try:
        entry = next(store.list_objects(reader.prefix), None)
        if writer:
            writer.store.put(key, _CONTENT)
            store.open(key).read()
        if entry:
            store.open(entry.key).read(1)
        try:
            store.put(key, _CONTENT)
        except store.errors as error:
            if store.diagnose(error).kind != "denied":
                raise
            return Finding(thing, f"{reader.url}: can get, cannot put")
        return Finding(
            thing,
            f"{reader.url}: can put; deploys should have read access only",
            f"{_NARROW[reader.kind.scheme]}, then: {_APPLY}",
        )
    except store.errors as error:
        return problem(thing, explain(reader, error))
    finally:
        with contextlib.suppress(*store.errors):
            (writer or reader).store.delete(key)


def _probe(bucket: Bucket) -> str:
    return f"{bucket.prefix}/slipway-doctor/{uuid.uuid4()}".lstrip("/")


def _name_block(block: str) -> str:
    return f"block {find_kind(Settings().store).block_type}/{block}"
