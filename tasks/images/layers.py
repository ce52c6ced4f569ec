"""Layers: archives whose bytes depend only on the names and contents of their files."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import IO

# Several wheels contain the same libraries: from this size on, the second copy becomes a link.
_LINK_BYTES = 100_000
LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip"


@dataclass(frozen=True)
class Layer:
    """A compressed archive that lies on those below it.

    Attributes:
        digest: SHA-256 of the compressed bytes, its name in registries.
        size: Number of compressed bytes.
        diff_id: SHA-256 of the archive before compression, its name in engines.
        path: The file on this host; None for one that is only in a registry.
    """

    digest: str
    size: int
    diff_id: str
    path: Path | None = None

    def describe(self) -> dict[str, object]:
        """Return the descriptor by which manifests refer to it."""
        return {"mediaType": LAYER_TYPE, "size": self.size, "digest": self.digest}


def write_layer(path: Path, files: Mapping[str, Path | bytes]) -> Layer:
    """Write a layer, and a file with its digests beside it.

    Args:
        path: The file; one that exists is complete.
        files: Content by absolute path in the image: a file, a folder with all below it, or bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as out:
        compressed = _Hashing(out)
        # Without a name and a time in its header, the archive is the same every time. Level 6
        # takes 60 % longer for 1 % less.
        with gzip.GzipFile("", "wb", compresslevel=5, fileobj=compressed, mtime=0) as packed:
            inside = _Hashing(packed)
            _write_archive(inside, files)
    layer = Layer(compressed.digest, compressed.size, inside.digest, path)
    digests = {key: value for key, value in asdict(layer).items() if key != "path"}
    _digest_file(path).write_text(json.dumps(digests))
    partial.replace(path)
    return layer


def read_layer(path: Path) -> Layer | None:
    """Read a layer that `write_layer` wrote; return None if there is no file."""
    if not path.is_file():
        return None
    return Layer(**json.loads(_digest_file(path).read_text()), path=path)


def _digest_file(path: Path) -> Path:
    return path.with_suffix(".json")


def _write_archive(out: IO[bytes] | _Hashing, files: Mapping[str, Path | bytes]) -> None:
    entries: dict[PurePosixPath, Path | bytes | None] = {}
    for name, content in files.items():
        place = PurePosixPath(name)
        for folder in place.parents:
            entries.setdefault(folder, None)
        if isinstance(content, Path) and content.is_dir():
            for child in content.rglob("*"):
                entries[place / child.relative_to(content).as_posix()] = child
            entries[place] = None
        else:
            entries[place] = content
    entries.pop(PurePosixPath("/"), None)
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
        written: dict[tuple[int, str], str] = {}
        for place in sorted(entries):
            _add(archive, str(place).lstrip("/"), entries[place], written)


def _add(
    archive: tarfile.TarFile,
    name: str,
    content: Path | bytes | None,
    written: dict[tuple[int, str], str],
) -> None:
    entry = tarfile.TarInfo(name)  # owned by root, at time 0
    if content is None or (isinstance(content, Path) and content.is_dir()):
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(entry)
    elif isinstance(content, bytes):
        entry.mode, entry.size = 0o644, len(content)
        archive.addfile(entry, io.BytesIO(content))
    else:
        status = content.stat()
        entry.mode = 0o755 if status.st_mode & 0o100 else 0o644
        with content.open("rb") as file:
            if status.st_size >= _LINK_BYTES:
                same = entry.mode, hashlib.file_digest(file, "sha256").hexdigest()
                file.seek(0)
                if (other := written.setdefault(same, name)) != name:
                    entry.type, entry.linkname = tarfile.LNKTYPE, other
                    archive.addfile(entry)
                    return
            entry.size = status.st_size
            archive.addfile(entry, file)


class _Hashing:
    """A file that counts and hashes the bytes written to it."""

    def __init__(self, out: IO[bytes] | gzip.GzipFile) -> None:
        self._out = out
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self.size += len(data)
        return self._out.write(data)

    def flush(self) -> None:
        self._out.flush()

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"
