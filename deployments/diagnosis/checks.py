"""What has to be there for flows to run, each proven by use."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, TypedDict

from deployments.apply import apply
from deployments.catalogue import block_variables
from deployments.catalogue.resources.blocks import notification_block
from deployments.diagnosis.finding import Finding, problem
from deployments.diagnosis.origin import _git
from tasks.bucket.bucket import Remote, explain, open_bucket
from tasks.core import secret_blocks
from tasks.core.errors import SlipwayError, TransientError
from tasks.core.settings import Settings
from tasks.platforms.base.settings import Environment, HostEnvironment
from tasks.repository import git

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

_APPLY = "python -m deployments.apply"
_CONTENT = b"put here by `make doctor`; may be deleted"


class Place(TypedDict):
    """Where an object is."""

    Bucket: str
    Key: str


async def worker(client: PrefectClient, pool: str) -> Finding:
    """Whether somebody takes runs from a work pool.

    Args:
        client: The server.
        pool: Name of the pool.
    """
    from prefect.client.schemas.filters import WorkerFilter
    from prefect.exceptions import ObjectNotFound

    thing = f"worker of pool {pool}"
    online = WorkerFilter.model_validate({"status": {"any_": ["ONLINE"]}})
    try:
        await client.read_work_pool(pool)
    except ObjectNotFound:
        return Finding(thing, "there is no such pool", _APPLY)
    found = await client.read_workers_for_work_pool(pool, worker_filter=online)
    if not found:
        return Finding(thing, "none is online", f"prefect worker start --pool {pool}")
    return Finding(thing, f"online: {', '.join(each.name for each in found)}")


async def deployment(client: PrefectClient, name: str) -> AsyncIterator[Finding]:
    """Whether a deployment is there, and somebody takes its runs.

    Args:
        client: The server.
        name: Its name, as `flow/deployment`.
    """
    from prefect.exceptions import ObjectNotFound

    thing = f"deployment {name}"
    try:
        found = await client.read_deployment_by_name(name)
    except ObjectNotFound:
        yield Finding(thing, "not there", f"declare it in prefect.yaml, then {_APPLY}")
        return
    if found.paused:
        yield Finding(thing, "paused: its runs do not start", "resume it in the UI")
    else:
        yield Finding(thing, "there")
    yield await worker(client, str(found.work_pool_name))


async def lock(environment: Environment) -> Finding | None:
    """Whether an environment can be locked: one that there is not is, and let go again.

    Args:
        environment: The environment; None is said of one that is locked on its own host.
    """
    from tasks.release.locks.holder import Holder
    from tasks.release.locks.lock import lock_of

    if isinstance(environment, HostEnvironment):
        return None
    thing, probe = "lock", f"{environment.name}-probe-{uuid.uuid4().hex[:8]}"
    wanted = lock_of(environment.model_copy(update={"name": probe}))
    try:
        if not await wanted.take(Holder.this_run("nothing")):
            return Finding(thing, "cannot be taken", "see that the server answers, and try again")
        async with wanted.kept():
            holder = await lock_of(environment).holder()
    except SlipwayError as error:
        return problem(thing, error)
    return Finding(thing, f"{environment.name} is held by {holder}" if holder else "it is free")


async def catalogue(options: frozenset[str]) -> Finding:
    """Whether the server has what the repository declares."""
    thing = "deployments, pool, blocks"
    try:
        changes = await apply(options, dry_run=True)
    except SlipwayError as error:
        return problem(thing, error)
    if changes:
        named = ", ".join(f"{each.kind} {each.name}" for each in changes[:3])
        return Finding(thing, f"{len(changes)} differ: {named}", f"{_APPLY} --dry-run")
    return Finding(thing, "as the repository declares them")


async def buckets() -> AsyncIterator[Finding]:
    """Whether the credentials of each block may do what they are for, and no more."""
    settings = Settings()
    writer: Remote | None = None
    for block in dict.fromkeys((settings.read_write_block, block_variables.RESULTS)):
        thing = f"block s3-bucket/{block}"
        try:
            remote = await open_bucket(block, "probe")
            await asyncio.to_thread(_write_and_read, remote)
        except SlipwayError as error:
            yield problem(thing, error)
        else:
            writer = writer or remote
            yield Finding(thing, f"{remote.url}: puts, heads, gets and deletes")
    yield await reader(writer)


async def reader(writer: Remote | None = None) -> Finding:
    """Whether the credentials by which models are pulled may read, and no more.

    Args:
        writer: Who can put something there to be read; without one, what is there is read.
    """
    block = Settings().read_block
    thing = f"block s3-bucket/{block}"
    try:
        remote = await open_bucket(block, "probe")
        return await asyncio.to_thread(_only_read, remote, writer, thing)
    except SlipwayError as error:
        return problem(thing, error)


async def secrets() -> AsyncIterator[Finding]:
    """Whether the blocks that need not be there can be used, if they are."""
    from prefect.blocks.system import Secret

    for name in secret_blocks.SECRETS:
        thing = f"block secret/{name}"
        try:
            secret: Any = await Secret.aload(name)
        except ValueError:
            yield Finding(thing, f"not there; to have it, set {secret_blocks.variable(name)}")
            continue
        if name == secret_blocks.GIT_TOKEN and Settings().origin.startswith("https://"):
            token = f"x-access-token:{secret.get()}".encode()
            header = f"Authorization: Basic {base64.b64encode(token).decode()}"
            variables = {
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "http.extraHeader",
                "GIT_CONFIG_VALUE_0": header,
            }
            yield await _git(thing, git.list_branches(Settings().origin), "clones", variables)
        else:
            yield Finding(thing, "there")


async def notification(client: PrefectClient, *, send: bool) -> Finding:
    """Whether there is a block by which automations notify.

    Args:
        client: The server.
        send: Whether to prove it, by a message.
    """
    from prefect.blocks.core import Block

    document = await notification_block(client)
    if document is None:
        return Finding(
            f"block {block_variables.NOTIFY}",
            f"not there; to be notified, set {block_variables.NOTIFY_VARIABLE}",
        )
    thing = f"block {document.block_type_name}/{block_variables.NOTIFY}"
    if not send:
        return Finding(thing, "there; `python -m deployments.doctor --notify` sends a message")
    block: Any = Block._from_block_document(document)
    try:
        await block.anotify("If you can read this, notifications work.", subject="Slipway")
    except Exception as error:  # a notification block of any type, with errors of its own
        return Finding(thing, f"cannot send: {type(error).__name__}", "correct the block in the UI")
    return Finding(thing, "sent a message")


def _write_and_read(remote: Remote) -> None:
    """Put, head, get and delete an object.

    Raises:
        TerminalError: The bucket refuses one of them.
        TransientError: It is out of reach, or gives back something else.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    where = _probe(remote)
    try:
        remote.client.put_object(**where, Body=_CONTENT)
        size = remote.client.head_object(**where)["ContentLength"]
        content = remote.client.get_object(**where)["Body"].read()
        remote.client.delete_object(**where)
    except (ClientError, BotoCoreError) as error:
        raise explain(remote, error) from None
    if (size, content) != (len(_CONTENT), _CONTENT):
        raise TransientError(
            f"{remote.url} gives back other bytes than were put there",
            state="the probe was deleted",
            next_step="see what is between here and the bucket: a proxy, another bucket",
        )


def _only_read(reader: Remote, writer: Remote | None, thing: str) -> Finding:
    """List, get what is there, and fail to put."""
    from botocore.exceptions import BotoCoreError, ClientError

    where = _probe(reader)
    try:
        there = reader.client.list_objects_v2(Bucket=reader.bucket, Prefix=reader.prefix, MaxKeys=1)
        if writer:
            writer.client.put_object(**where, Body=_CONTENT)
            reader.client.get_object(**where)["Body"].read()
        for each in there.get("Contents", []):
            reader.client.get_object(Bucket=reader.bucket, Key=each["Key"])["Body"].close()
        try:
            reader.client.put_object(**where, Body=_CONTENT)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] not in {401, 403}:
                raise
            return Finding(thing, f"{reader.url}: gets, and is refused to put")
        return Finding(
            thing,
            f"{reader.url}: can put; who deploys should only be able to read",
            f"give it a key that can only read: SLIPWAY_S3_READ_KEY_ID, then {_APPLY}",
        )
    except (ClientError, BotoCoreError) as error:
        return problem(thing, explain(reader, error))
    finally:
        with contextlib.suppress(ClientError, BotoCoreError):
            (writer or reader).client.delete_object(**where)


def _probe(remote: Remote) -> Place:
    return {
        "Bucket": remote.bucket,
        "Key": f"{remote.prefix}/slipway-doctor/{uuid.uuid4()}".lstrip("/"),
    }
