"""The checkout's data in DVC, copied to the cache that the flows of the local stack use."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ruamel.yaml import YAML

from deployments.catalogue.block_variables import DVC_FOLDER, ObjectStorage
from tasks.bucket.objects import StoredObject
from tasks.core.commands import run_blocking
from tasks.core.errors import ConfigurationError
from tasks.repository.git import Git

_DVC_SECONDS = 60.0


def list_objects(checkout: Path) -> list[StoredObject]:
    """Return the objects that the `.dvc` files in a checkout's HEAD name; of a folder its listing.

    Args:
        checkout: The checkout; only read.
    """
    git = Git(checkout)
    objects = []
    for source in git("ls-tree", "-r", "-z", "--name-only", "HEAD").split("\0"):
        if not source.endswith(".dvc"):
            continue
        content = YAML(typ="safe").load(git("show", f"HEAD:{source}")) or {}
        if any("repo" in dependency for dependency in content.get("deps", [])):
            continue  # `dvc import`: kept by the other repository
        objects += [
            StoredObject(out["md5"], None, str(PurePosixPath(source).parent / out["path"]), source)
            for out in content.get("outs", [])
            if "md5" in out
        ]
    return objects


def copy_objects(checkout: Path, cache: Path) -> tuple[int, list[StoredObject]]:
    """Copy the objects that a checkout's HEAD names from its DVC cache to another cache.

    Args:
        checkout: The checkout; only read.
        cache: The cache that flows use.

    Returns:
        The number of copied objects, and the objects that are in neither cache.

    Raises:
        ConfigurationError: DVC cannot say where the checkout's cache is.
    """
    uncached = [root for root in list_objects(checkout) if not root.is_cached(cache)]
    if not uncached:
        return 0, []
    own = _cache_of(checkout)
    copied, missing = 0, []
    for root in uncached:
        members: list[StoredObject] = []
        if root.is_folder:
            listings = [at / root.key for at in (cache, own) if (at / root.key).is_file()]
            members = root.members(listings[0].read_bytes()) if listings else []
        # The listing last: where it is, its members are too.
        for item in (*members, root):
            if (cache / item.key).is_file():
                continue
            if (own / item.key).is_file():
                _copy(own / item.key, cache / item.key)
                copied += 1
            else:
                missing.append(item)
    return copied, missing


def require_in_bucket(objects: Sequence[StoredObject], storage: ObjectStorage) -> None:
    """Check that objects which are in no cache are in the bucket at least.

    Raises:
        ConfigurationError: One is not there either, so no flow can use or push it.
    """
    if not objects:
        return
    import boto3
    from botocore.config import Config
    from botocore.exceptions import ClientError

    identity = storage.read_write
    client = boto3.client(
        "s3",
        endpoint_url=storage.endpoint_url,
        region_name=storage.region,
        aws_access_key_id=identity.key_id,
        aws_secret_access_key=identity.secret,
        config=Config(proxies={}),  # those of the user's shell are not for this machine
    )
    lost = []
    for item in objects:
        try:
            client.head_object(Bucket=storage.bucket, Key=f"{DVC_FOLDER}/{item.key}")
        except ClientError:
            lost.append(item)
    if lost:
        first, more = lost[0], f" (and of {len(lost) - 1} more)" if lost[1:] else ""
        file = first.target.removesuffix(".dvc")
        raise ConfigurationError(
            f"{first.target} is committed, but the bytes of {first.path}{more} are neither in the"
            " checkout's DVC cache nor in the stack's bucket",
            state="the stack is up; nothing was trained",
            next_step=f"put the data at {file}, run `.venv/bin/dvc add {file}`, commit (or, where"
            f" your own bucket has them: `.venv/bin/dvc pull {first.target}`); then run the same"
            " command again",
        )


def _cache_of(checkout: Path) -> Path:
    """Return the folder of the checkout's DVC cache, from DVC: there are four places to set it."""
    result = run_blocking(
        ["dvc", "cache", "dir"],
        timeout=_DVC_SECONDS,
        cwd=checkout,
        env={"DVC_NO_ANALYTICS": "1"},
        hide=("GIT_",),
    )
    if result.code:
        raise ConfigurationError(
            f"DVC cannot say where the cache of {checkout} is: {result.stderr.strip()}",
            state="nothing was started",
            next_step="correct .dvc/config or .dvc/config.local, then run the same command again",
        )
    return Path(checkout, result.stdout.strip())


def _copy(source: Path, target: Path) -> None:
    """Put a file where it was not, whole or not at all; a hard link where the disk allows it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    try:
        os.link(source, draft)
    except OSError:  # another disk
        shutil.copyfile(source, draft)
        draft.chmod(0o444)  # as DVC does: nobody may write into a cache
    draft.replace(target)
