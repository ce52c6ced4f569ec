from __future__ import annotations

import gzip
import os
import tarfile
from pathlib import Path

import pytest

from tasks.core.errors import ConfigurationError
from tasks.images.layers import read_layer, write_layer
from tasks.images.reference import parse_reference
from tasks.images.registry import sha256


def _folder(path: Path, time: int, mode: int) -> Path:
    names = ["b/two.py", "a.py", "b/run"] if time else ["a.py", "b/run", "b/two.py"]
    for name in names:
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
        file.chmod(mode)
        os.utime(file, (time, time))
    (path / "b" / "run").chmod(mode | 0o100)
    (path / "a name so long that it needs a header of its own".replace(" ", "-" * 4)).touch()
    return path


def test_equal_contents_give_equal_bytes(tmp_path: Path) -> None:
    first = write_layer(
        tmp_path / "one.tar.gz",
        {"/app/code": _folder(tmp_path / "one", 0, 0o600), "/app/model/m": b"bytes"},
    )
    other = write_layer(
        tmp_path / "elsewhere" / "other.tar.gz",
        {"/app/model/m": b"bytes", "/app/code": _folder(tmp_path / "other", 10**9, 0o664)},
    )
    assert (first.digest, first.diff_id, first.size) == (other.digest, other.diff_id, other.size)
    assert first.path
    assert other.path
    assert first.path.read_bytes() == other.path.read_bytes()


def test_layer_has_its_digests_and_size(tmp_path: Path) -> None:
    path = tmp_path / "layer.tar.gz"
    layer = write_layer(path, {"/app/code": _folder(tmp_path / "code", 7, 0o600)})
    assert layer.digest == sha256(path.read_bytes())
    assert layer.size == path.stat().st_size
    assert layer.diff_id == sha256(gzip.decompress(path.read_bytes()))
    assert read_layer(path) == layer
    assert read_layer(tmp_path / "another.tar.gz") is None


def test_files_belong_to_root_and_are_readable_by_all(tmp_path: Path) -> None:
    path = tmp_path / "layer.tar.gz"
    write_layer(path, {"/app/code": _folder(tmp_path / "code", 7, 0o600)})
    with tarfile.open(path) as archive:
        entries = {entry.name: entry for entry in archive}
    assert list(entries)[:2] == ["app", "app/code"]  # a folder comes before what is in it
    for entry in entries.values():
        assert (entry.uid, entry.gid, entry.mtime) == (0, 0, 0)
        assert entry.mode == (0o755 if entry.isdir() or entry.name.endswith("run") else 0o644)


def test_equal_large_files_are_stored_once(tmp_path: Path) -> None:
    large, folder = b"library" * 20_000, tmp_path / "code"
    for name in ("a/one.so", "b/two.so", "b/three.so"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(large)
    (folder / "b" / "three.so").chmod(0o755)
    (folder / "b" / "two.so").chmod(0o644)
    (folder / "a" / "one.so").chmod(0o644)
    path = tmp_path / "layer.tar.gz"
    write_layer(path, {"/app": folder})
    with tarfile.open(path) as archive:
        entries = {entry.name: entry for entry in archive if not entry.isdir()}
        assert all(archive.extractfile(item).read() == large for item in entries.values())  # type: ignore[union-attr]
    assert {name: entry.linkname for name, entry in entries.items()} == {
        "app/a/one.so": "",
        "app/b/three.so": "",  # may be executed, which the others may not
        "app/b/two.so": "app/a/one.so",
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("python:3.12-slim", "docker.io/library/python:3.12-slim"),
        ("someone/python", "docker.io/someone/python"),
        ("localhost/wine", "localhost/wine"),
        ("127.0.0.1:5000/a/b/wine:v1", "127.0.0.1:5000/a/b/wine:v1"),
        (f"ghcr.io/us/wine:v1@sha256:{'a' * 64}", f"ghcr.io/us/wine:v1@sha256:{'a' * 64}"),
    ],
)
def test_image_names_are_parsed_as_docker_does(text: str, says: str) -> None:
    assert str(parse_reference(text)) == says


@pytest.mark.parametrize("text", ["", "Wine", "ghcr.io/us/wine@sha256:12", "ghcr.io/", "a b"])
def test_invalid_image_name_is_rejected(text: str) -> None:
    with pytest.raises(ConfigurationError, match="invalid image name"):
        parse_reference(text)


@pytest.mark.parametrize(
    ("host", "plain"),
    [
        ("127.0.0.1:5000", True),
        ("localhost", True),
        ("[::1]:5000", True),
        ("ghcr.io", False),
        ("127.0.0.1.example.com", False),
        ("localhost.example.com", False),
    ],
)
def test_plain_http_is_for_this_host_only(host: str, plain: bool) -> None:
    assert parse_reference(f"{host}/wine").on_loopback is plain
