"""Object storage: what a commit keeps in S3, uploading it with DVC, and proof that it is there."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml

from tasks import commands, dvc, git
from tasks.capability import capability
from tasks.errors import SlipwayError, TerminalError, TransientError
from tasks.report import Progress
from tasks.settings import Settings
from tasks.workspace import Workspace

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError, ClientError
    from mypy_boto3_s3 import S3Client

_TRANSFER_SECONDS = 1800.0
_READ_BYTES = 1 << 20
_CHECKS_AT_ONCE = 16
# Error codes of S3 that asking again does not change.
_REFUSED = {
    "403", "AccessDenied", "AllAccessDisabled", "ExpiredToken", "InvalidAccessKeyId",
    "InvalidToken", "NoSuchBucket", "SignatureDoesNotMatch",
}  # fmt: skip
_ABSENT = {"404", "NoSuchKey", "NotFound"}


@dataclass(frozen=True)
class StoredObject:
    """One object that a commit needs to have in the bucket.

    Attributes:
        md5: Hash of its content as DVC writes it; ends in `.dir` for the listing of a folder.
        size: Bytes, where Git knows it.
        path: The file in the workspace that it is the content of.
    """

    md5: str
    size: int | None
    path: str

    @property
    def key(self) -> str:
        """Its key below the remote's URL (DVC's cache layout, version 3)."""
        return f"files/md5/{self.md5[:2]}/{self.md5[2:]}"


@dataclass(frozen=True)
class Remote:
    """A DVC remote with what an `S3Bucket` block knows of it.

    Attributes:
        name: Name of the DVC remote.
        block: Name of the block.
        bucket: Bucket name.
        prefix: Folder in the bucket, without slashes around it.
        environment: Variables by which DVC gets the credentials; never logged.
        client: An S3 client with the same credentials.
    """

    name: str
    block: str
    bucket: str
    prefix: str
    environment: Mapping[str, str]
    client: S3Client

    @property
    def url(self) -> str:
        """The remote's URL, as DVC wants it."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def key(self, stored: StoredObject) -> str:
        """Full key of an object in the bucket."""
        return f"{self.prefix}/{stored.key}".lstrip("/")

    def __repr__(self) -> str:
        return f"Remote({self.name!r}, {self.url!r})"  # no credentials


async def load_remote(name: str) -> Remote:
    """Read where a remote is, and with what credentials, from its Prefect block.

    Args:
        name: `read-write` or `read`.

    Returns:
        The remote.

    Raises:
        TerminalError: The block does not exist.
    """
    from botocore.config import Config
    from prefect_aws.s3 import S3Bucket

    settings = Settings()
    block_name = {"read-write": settings.read_write_block, "read": settings.read_block}[name]
    try:
        block = cast("S3Bucket", await S3Bucket.aload(block_name))
    except ValueError as error:
        raise TerminalError(
            f"block s3-bucket/{block_name} does not exist on the Prefect server",
            state="nothing was started",
            next_step="run `make up` (local stack) or `python -m deployments.blocks` to create it",
        ) from error
    session = block.credentials.get_boto3_session()
    credentials = session.get_credentials()
    if credentials is None:
        raise TerminalError(
            f"block s3-bucket/{block_name} has no credentials, and this host has none either",
            state="nothing was started",
            next_step="set them in the AwsCredentials block, or give the host a role",
        )
    keys = credentials.get_frozen_credentials()
    endpoint = block.credentials.aws_client_parameters.endpoint_url
    environment = {
        "AWS_ACCESS_KEY_ID": str(keys.access_key),
        "AWS_SECRET_ACCESS_KEY": str(keys.secret_key),
        "AWS_DEFAULT_REGION": session.region_name or "us-east-1",
    }
    if keys.token:
        environment["AWS_SESSION_TOKEN"] = keys.token
    if endpoint:
        environment["AWS_ENDPOINT_URL"] = endpoint
    config = Config(
        connect_timeout=5,
        read_timeout=60,
        retries={"total_max_attempts": 2, "mode": "standard"},
        max_pool_connections=_CHECKS_AT_ONCE,
    )
    client = session.client("s3", endpoint_url=endpoint, config=config)
    return Remote(
        name, block_name, block.bucket_name, block.bucket_folder.strip("/"), environment, client
    )


def configure_dvc(workspace: Workspace, remote: Remote, cache: Path) -> None:
    """Point the workspace's DVC at a cache and at the bucket of the block.

    Args:
        workspace: The workspace.
        remote: The remote.
        cache: Folder of the cache.
    """
    (workspace.path / ".dvc" / "config.local").write_text(
        "[core]\n    autostage = true\n"  # else DVC's advice fills the log
        f'[cache]\n    dir = {cache}\n    type = "hardlink,copy"\n'
        f"['remote \"{remote.name}\"']\n    url = {remote.url}\n"
    )


async def committed_outputs(workspace: Workspace) -> list[tuple[str, dict[str, Any]]]:
    """What DVC keeps at the commit: outputs of `dvc.lock` and of every `.dvc` file.

    Args:
        workspace: The workspace.

    Returns:
        The DVC target (a stage, or a `.dvc` file) and the entry of each output.
    """
    tracked = set((await workspace.git(git.tracked_files())).stdout.split("\0"))
    found: list[tuple[str, dict[str, Any]]] = []
    if "dvc.lock" in tracked:
        lock = yaml.safe_load((workspace.path / "dvc.lock").read_text()) or {}
        found += [
            (stage, out)
            for stage, entry in lock.get("stages", {}).items()
            for out in entry.get("outs", [])
            if out["path"] not in tracked  # Git keeps those with `cache: false` itself
        ]
    for target in sorted(path for path in tracked if path.endswith(".dvc")):
        for out in yaml.safe_load((workspace.path / target).read_text()).get("outs", []):
            found.append((target, {**out, "path": str(Path(target).parent / out["path"])}))
    return found


async def objects_of(workspace: Workspace, cache: Path) -> list[StoredObject]:
    """Every object that the commit needs to have in the bucket, folders' members included.

    Args:
        workspace: The workspace.
        cache: DVC cache, for the listings of folders.

    Returns:
        The objects, each once.

    Raises:
        TerminalError: The listing of a folder is not in the cache.
    """
    objects: dict[str, StoredObject] = {}
    for target, out in await committed_outputs(workspace):
        md5, path = out["md5"], out["path"]
        folder = md5.endswith(".dir")
        # For a folder, `size` is the sum of its members.
        objects[md5] = StoredObject(md5, None if folder else out.get("size"), path)
        if folder:
            listing = cache / objects[md5].key
            if not listing.is_file():
                raise _missing_here([objects[md5]], target)
            for member in json.loads(listing.read_text()):
                name = f"{path}/{member['relpath']}"
                objects[member["md5"]] = StoredObject(member["md5"], None, name)
    return list(objects.values())


def _missing_here(objects: Sequence[StoredObject], target: str = "") -> TerminalError:
    names = ", ".join(stored.path for stored in objects[:5])
    return TerminalError(
        f"{names}: neither in the bucket nor in this host's DVC cache",
        state="nothing was published; origin is as it was",
        next_step=f"run the train flow with force=true to make {target or 'them'} again",
    )


@capability("restore", run_name="restore {workspace.label}", timeout=_TRANSFER_SECONDS + 60)
async def restore(workspace: Workspace) -> None:
    """Bring what the commit keeps into the workspace: from this host's cache, else the bucket.

    What is neither here nor there is left out: the pipeline makes it again.

    Args:
        workspace: The workspace at the commit.

    Raises:
        TransientError: The bucket is needed and cannot be reached.
        TerminalError: The bucket is needed and refuses access.
    """
    remote, cache = await load_remote("read-write"), Settings().dvc_cache
    configure_dvc(workspace, remote, cache)
    outputs = await committed_outputs(workspace)
    if not outputs:
        return
    targets = sorted({target for target, _ in outputs})
    if all(_is_cached(cache, out["md5"]) for _, out in outputs):
        argv, secrets = dvc.checkout(targets), None
    else:
        argv, secrets = dvc.pull_what_is_there(remote.name, targets), remote.environment
    done = await commands.run(argv, timeout=_TRANSFER_SECONDS, cwd=workspace.path, env=secrets)
    if done.code:
        raise await transfer_failed(remote, done)


def _is_cached(cache: Path, md5: str) -> bool:
    """Whether the cache has an object, and the members of a folder too."""
    file = cache / StoredObject(md5, None, "").key
    if not file.is_file():
        return False
    if not md5.endswith(".dir"):
        return True
    return all(_is_cached(cache, member["md5"]) for member in json.loads(file.read_text()))


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
    objects = await objects_of(workspace, cache)
    async with Progress(f"upload {workspace.label}") as progress:
        bad = await _faults(remote, objects)
        if not bad:
            commands.run_logger().info("all %d objects are in %s", len(objects), remote.url)
            return objects
        await progress.set(10)
        absent = [stored for stored in bad if not (cache / stored.key).is_file()]
        if absent:
            raise _missing_here(absent)
        # DVC only looks whether a key exists: what is there with a wrong content has to go first.
        await _delete(remote, [stored for stored, why in bad.items() if why != "missing"])
        targets = sorted({target for target, _ in await committed_outputs(workspace)})
        sent = await commands.run(
            dvc.push(remote.name, targets),
            timeout=_TRANSFER_SECONDS,
            cwd=workspace.path,
            env=remote.environment,
        )
        if sent.code:
            raise await transfer_failed(remote, sent)
        await progress.set(80)
        bad = await _faults(remote, objects)
        if bad:
            stored, why = next(iter(bad.items()))
            raise TransientError(
                f"after `dvc push`, {len(bad)} of {len(objects)} objects are not right in"
                f" {remote.url}; first {stored.path}: {why}",
                state="nothing was published; origin is as it was",
                next_step="run push again; it sends only what is missing",
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
        The file; its content is not verified yet.

    Raises:
        TransientError: The bucket cannot be reached or answers with errors.
        TerminalError: The bucket refuses access or does not have the object.
    """
    remote = await load_remote("read")
    # A private cache: the bytes that get verified and served are the bucket's.
    configure_dvc(workspace, remote, workspace.path / ".dvc" / "cache")
    got = await commands.run(
        dvc.pull(remote.name, [target]),
        timeout=_TRANSFER_SECONDS,
        cwd=workspace.path,
        env=remote.environment,
    )
    if got.code:
        raise await transfer_failed(remote, got)
    return workspace.path / target


async def transfer_failed(remote: Remote, finished: commands.Finished) -> SlipwayError:
    """Find out whether a failed DVC transfer is worth another try, by asking the bucket.

    Args:
        remote: The remote.
        finished: The DVC command that failed.

    Returns:
        The error to raise.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        await asyncio.to_thread(
            remote.client.list_objects_v2, Bucket=remote.bucket, Prefix=remote.prefix, MaxKeys=1
        )
    except (ClientError, BotoCoreError) as error:
        return explain(remote, error)
    said = finished.tail()
    if "missing" in said.lower() or "does not exist" in said.lower():
        return TerminalError(
            f"objects are missing in {remote.url}: {said}",
            state="nothing was changed",
            next_step="run the push flow at this ref on the host that made the model",
        )
    if "access denied" in said.lower() or "forbidden" in said.lower():
        return _refused(remote, said)
    return TransientError(
        f"`{' '.join(finished.argv[:3])}` failed: {said}",
        state="what was transferred stays; nothing was published",
        next_step="run the flow again; it transfers only what is missing",
    )


def explain(remote: Remote, error: ClientError | BotoCoreError) -> SlipwayError:
    """Say what an S3 error means and whether to try again.

    Args:
        remote: The remote.
        error: What boto3 raised.

    Returns:
        The error to raise.
    """
    from botocore.exceptions import ClientError

    if isinstance(error, ClientError):
        code = error.response.get("Error", {}).get("Code", "")
        if code in _REFUSED:
            return _refused(remote, code)
        if code in _ABSENT:
            return TerminalError(f"{remote.url}: not found ({code})", state="nothing was changed")
    return TransientError(
        f"{remote.url} is out of reach: {type(error).__name__}: {error}",
        state="nothing was published",
        next_step="check that the S3 endpoint is up (`make status`), then run the flow again",
    )


def _refused(remote: Remote, why: str) -> TerminalError:
    return TerminalError(
        f"{remote.url} refuses the credentials of block s3-bucket/{remote.block} ({why})",
        state="nothing was changed",
        next_step="correct the credentials and register the blocks again: `make up` (local"
        " stack) or `python -m deployments.blocks`",
    )


async def _faults(remote: Remote, objects: Sequence[StoredObject]) -> dict[StoredObject, str]:
    limit = asyncio.Semaphore(_CHECKS_AT_ONCE)

    async def check(stored: StoredObject) -> str | None:
        async with limit:
            return await asyncio.to_thread(_fault, remote, stored)

    answers = await asyncio.gather(*map(check, objects))
    return {stored: why for stored, why in zip(objects, answers, strict=True) if why}


def _fault(remote: Remote, stored: StoredObject) -> str | None:
    """What is wrong with an object in the bucket, None if nothing."""
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, key = remote.bucket, remote.key(stored)
    md5 = stored.md5.removesuffix(".dir")
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
        if error.response.get("Error", {}).get("Code") in _ABSENT:
            return "missing"
        raise explain(remote, error) from error
    except BotoCoreError as error:
        raise explain(remote, error) from error


async def _delete(remote: Remote, objects: Sequence[StoredObject]) -> None:
    for stored in objects:
        commands.run_logger().warning("replacing %s: wrong content in the bucket", stored.path)
        await asyncio.to_thread(
            remote.client.delete_object, Bucket=remote.bucket, Key=remote.key(stored)
        )


def file_digest(path: Path, algorithm: str) -> str:
    """Hash of a file's content.

    Args:
        path: The file.
        algorithm: Name that `hashlib` knows.

    Returns:
        Hexadecimal digits.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
