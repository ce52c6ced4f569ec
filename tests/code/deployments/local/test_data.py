"""Data that were added to DVC in the checkout reach the cache that flows use."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deployments.local import data
from deployments.local.credentials import S3Identity
from deployments.local.stack import Stack
from tasks.bucket.objects import StoredObject
from tasks.core.errors import ConfigurationError
from tasks.repository.git import Git


def dvc(folder: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=folder, check=True)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with a file and a folder in DVC, committed."""
    folder = tmp_path_factory.mktemp("data") / "checkout"
    (folder / "parts").mkdir(parents=True)
    (folder / "a.csv").write_text("x;y\n1;2\n")
    for name in ("b", "c"):
        (folder / "parts" / name).write_text(name)
    git = Git(folder)
    git("init", "--quiet")
    dvc(folder, "init", "--quiet")
    dvc(folder, "config", "core.analytics", "false")
    dvc(folder, "add", "--quiet", "a.csv", "parts")
    git("add", "--all")
    git("commit", "--quiet", "--message=Data")
    return folder


@pytest.fixture
def checkout(template: Path, tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "checkout"
    shutil.copytree(template, folder)
    yield folder
    # DVC protects its cache from being written to.
    for path in folder.rglob("*"):
        path.chmod(0o700)


def content(cache: Path) -> dict[str, bytes]:
    files = (path for path in cache.rglob("*") if path.is_file())
    return {str(path.relative_to(cache)): path.read_bytes() for path in files}


def test_files_and_folders_are_copied_once_and_whole(checkout: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert data.copy_objects(checkout, cache) == (4, [])  # a.csv, the listing of parts, b and c
    assert content(cache) == content(checkout / ".dvc" / "cache")
    shutil.rmtree(checkout / ".dvc" / "cache")
    assert data.copy_objects(checkout, cache) == (0, [])


def test_cache_elsewhere_is_found_and_copied_from_another_disk(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.move(checkout / ".dvc" / "cache", tmp_path / "shared")
    dvc(checkout, "cache", "dir", "--local", str(tmp_path / "shared"))

    def refuse(*_: object) -> None:
        raise OSError("Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    assert data.copy_objects(checkout, tmp_path / "cache") == (4, [])
    assert content(tmp_path / "cache") == content(tmp_path / "shared")


def test_uncommitted_data_are_not_copied(checkout: Path, tmp_path: Path) -> None:
    Git(checkout)("rm", "--quiet", "--cached", "parts.dvc")
    Git(checkout)("commit", "--quiet", "--message=No parts")
    assert data.copy_objects(checkout, tmp_path / "cache") == (1, [])


def test_missing_member_is_named_and_copied_later(checkout: Path, tmp_path: Path) -> None:
    own, cache = checkout / ".dvc" / "cache", tmp_path / "cache"
    name = next(name for name, text in content(own).items() if text == b"c")
    aside = (own / name).rename(tmp_path / "aside")
    copied, missing = data.copy_objects(checkout, cache)
    assert (copied, [item.path for item in missing]) == (3, ["parts/c"])
    aside.rename(own / name)
    assert data.copy_objects(checkout, cache) == (1, [])


def test_lost_data_are_refused_with_the_next_command(stack: Stack) -> None:
    absent = StoredObject("0" * 32, None, "data/source/my.csv", "data/source/my.csv.dvc")
    data.require_in_bucket([], replace(stack.storage, read_write=S3Identity("no", "body")))
    with pytest.raises(ConfigurationError, match=r"data/source/my\.csv") as refusal:
        data.require_in_bucket([absent], stack.storage)
    assert "dvc add data/source/my.csv`" in refusal.value.next_step


def test_data_in_the_bucket_alone_are_not_missing(stack: Stack) -> None:
    import boto3

    item = StoredObject("1" * 32, None, "a", "a.dvc")
    storage = stack.storage
    client = boto3.client(
        "s3",
        endpoint_url=storage.endpoint_url,
        region_name=storage.region,
        aws_access_key_id=storage.read_write.key_id,
        aws_secret_access_key=storage.read_write.secret,
    )
    client.put_object(Bucket=storage.bucket, Key=f"dvc/{item.key}", Body=b"a")
    data.require_in_bucket([item], storage)
    client.delete_object(Bucket=storage.bucket, Key=f"dvc/{item.key}")


def test_stack_copies_data_as_it_comes_up(stack: Stack, checkout: Path, tmp_path: Path) -> None:
    """With the checkout as its source, origin and cache are made before any program starts."""
    lines: list[str] = []
    other = Stack(tmp_path / "home", stack.checkout, source=checkout, usual_ports=False)

    class EnoughError(Exception):
        pass

    def log(line: str) -> None:
        lines.append(line)
        if line == "starting":
            raise EnoughError

    with pytest.raises(EnoughError):
        other.up(log)
    assert "4 objects of data copied from the checkout's DVC cache" in lines
    assert content(other.home / "dvc-cache") == content(checkout / ".dvc" / "cache")
