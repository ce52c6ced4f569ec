"""Data that the checkout keeps with DVC, brought to where the flows of the local stack look."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ruamel.yaml import YAML

from deployments.catalogue.block_variables import DVC_FOLDER, ObjectStorage
from deployments.git import Git
from tasks.core.errors import ConfigurationError

_DVC_SECONDS = 60.0


# Not tasks.bucket.objects.StoredObject: that module imports Prefect, a second for `make demo`.
@dataclass(frozen=True)
class Object:
    """One object of DVC that a commit names.

    Attributes:
        md5: Hash of its content as DVC writes it; ends in `.dir` for the listing of a folder.
        path: The file or folder in the checkout that it is the content of.
        source: The `.dvc` file that names it.
    """

    md5: str
    path: str
    source: str

    @property
    def key(self) -> str:
        """Its path below a cache, and its key below a remote's URL (DVC's layout, version 3)."""
        return f"files/md5/{self.md5[:2]}/{self.md5[2:]}"


def named_at_head(checkout: Path) -> list[Object]:
    """What the tracked `.dvc` files of a checkout's HEAD name.

    Args:
        checkout: The checkout; only read.

    Returns:
        The objects; of a folder its listing alone.
    """
    git = Git(checkout)
    found = []
    for source in git("ls-tree", "-r", "-z", "--name-only", "HEAD").split("\0"):
        if not source.endswith(".dvc"):
            continue
        content = YAML(typ="safe").load(git("show", f"HEAD:{source}")) or {}
        if any("repo" in each for each in content.get("deps", [])):
            continue  # `dvc import`: kept by the other repository
        found += [
            Object(out["md5"], str(PurePosixPath(source).parent / out["path"]), source)
            for out in content.get("outs", [])
            if "md5" in out
        ]
    return found


def bring(checkout: Path, cache: Path) -> tuple[int, list[Object]]:
    """Bring what a checkout's HEAD names from the checkout's own DVC cache into another cache.

    Args:
        checkout: The checkout; only read.
        cache: The cache that flows use.

    Returns:
        How many objects were brought, and those that are in neither cache.

    Raises:
        ConfigurationError: DVC cannot say where the checkout's cache is.
    """
    wanted = [each for each in named_at_head(checkout) if not _is_whole(each, cache)]
    if not wanted:
        return 0, []
    own = _cache_of(checkout)
    brought, missing = 0, []
    for each in wanted:
        objects = [each]
        if each.md5.endswith(".dir"):
            listings = [at / each.key for at in (cache, own) if (at / each.key).is_file()]
            # The listing last: where it is, its members are too.
            objects = [*(_members(each, listings[0]) if listings else ()), each]
        for one in objects:
            if (cache / one.key).is_file():
                continue
            if (own / one.key).is_file():
                _place(own / one.key, cache / one.key)
                brought += 1
            else:
                missing.append(one)
    return brought, missing


def require(missing: Sequence[Object], storage: ObjectStorage) -> None:
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
        file = first.source.removesuffix(".dvc")
        raise ConfigurationError(
            f"{first.source} is committed, but the bytes of {first.path}{more} are neither in the"
            " checkout's DVC cache nor in the stack's bucket",
            state="the stack is up; nothing was trained",
            next_step=f"put the data at {file}, run `.venv/bin/dvc add {file}`, commit (or, where"
            f" your own bucket has them: `.venv/bin/dvc pull {first.source}`); then the same again",
        )


def _is_whole(wanted: Object, cache: Path) -> bool:
    file = cache / wanted.key
    if not file.is_file():
        return False
    return not wanted.md5.endswith(".dir") or all(
        (cache / member.key).is_file() for member in _members(wanted, file)
    )


def _members(folder: Object, listing: Path) -> list[Object]:
    return [
        Object(each["md5"], f"{folder.path}/{each['relpath']}", folder.source)
        for each in json.loads(listing.read_text())
    ]


def _cache_of(checkout: Path) -> Path:
    """Where DVC keeps the checkout's objects; DVC is asked, as there are four places to set it."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    asked = subprocess.run(
        [sys.executable, "-m", "dvc", "cache", "dir"],
        cwd=checkout,
        env={**inherited, "DVC_NO_ANALYTICS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_DVC_SECONDS,
        check=False,
    )
    if asked.returncode:
        raise ConfigurationError(
            f"DVC cannot say where the cache of {checkout} is: {asked.stderr.strip()}",
            state="nothing was started",
            next_step="mend .dvc/config or .dvc/config.local, and run the same command again",
        )
    return Path(checkout, asked.stdout.strip())


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
