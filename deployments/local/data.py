"""Data that the checkout keeps with DVC, brought to where the flows of the local stack look."""

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


def named_at_head(checkout: Path) -> list[StoredObject]:
    """What the tracked `.dvc` files of a checkout's HEAD name.

    Args:
        checkout: The checkout; only read.

    Returns:
        The objects; of a folder its listing alone.
    """
    git = Git(checkout)
    objects = []
    for source in git("ls-tree", "-r", "-z", "--name-only", "HEAD").split("\0"):
        if not source.endswith(".dvc"):
            continue
        content = YAML(typ="safe").load(git("show", f"HEAD:{source}")) or {}
        if any("repo" in each for each in content.get("deps", [])):
            continue  # `dvc import`: kept by the other repository
        objects += [
            StoredObject(out["md5"], None, str(PurePosixPath(source).parent / out["path"]), source)
            for out in content.get("outs", [])
            if "md5" in out
        ]
    return objects


def bring(checkout: Path, cache: Path) -> tuple[int, list[StoredObject]]:
    """Bring what a checkout's HEAD names from the checkout's own DVC cache into another cache.

    Args:
        checkout: The checkout; only read.
        cache: The cache that flows use.

    Returns:
        How many objects were brought, and those that are in neither cache.

    Raises:
        ConfigurationError: DVC cannot say where the checkout's cache is.
    """
    wanted = [each for each in named_at_head(checkout) if not each.is_cached(cache)]
    if not wanted:
        return 0, []
    own = _cache_of(checkout)
    brought, missing = 0, []
    for each in wanted:
        objects = [each]
        if each.is_folder:
            listings = [at / each.key for at in (cache, own) if (at / each.key).is_file()]
            # The listing last: where it is, its members are too.
            members = each.members(listings[0].read_bytes()) if listings else []
            objects = [*members, each]
        for one in objects:
            if (cache / one.key).is_file():
                continue
            if (own / one.key).is_file():
                _place(own / one.key, cache / one.key)
                brought += 1
            else:
                missing.append(one)
    return brought, missing


def require(missing: Sequence[StoredObject], storage: ObjectStorage) -> None:
    """Make sure that objects that are in no cache are in the bucket at least.

    Args:
        missing: The objects.
        storage: The bucket.

    Raises:
        ConfigurationError: One is not there either, so no flow can use or push it.
    """
    if not missing:
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
    nowhere = []
    for each in missing:
        try:
            client.head_object(Bucket=storage.bucket, Key=f"{DVC_FOLDER}/{each.key}")
        except ClientError:
            nowhere.append(each)
    if nowhere:
        first, more = nowhere[0], f" (and of {len(nowhere) - 1} more)" if nowhere[1:] else ""
        file = first.target.removesuffix(".dvc")
        raise ConfigurationError(
            f"{first.target} is committed, but the bytes of {first.path}{more} are neither in the"
            " checkout's DVC cache nor in the stack's bucket",
            state="the stack is up; nothing was trained",
            next_step=f"put the data at {file}, run `.venv/bin/dvc add {file}`, commit (or, where"
            f" your own bucket has them: `.venv/bin/dvc pull {first.target}`); then the same again",
        )


def _cache_of(checkout: Path) -> Path:
    """Where DVC keeps the checkout's objects; DVC is asked, as there are four places to set it."""
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
            next_step="mend .dvc/config or .dvc/config.local, and run the same command again",
        )
    return Path(checkout, result.stdout.strip())


def _place(source: Path, target: Path) -> None:
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
