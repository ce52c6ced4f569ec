"""Hashes of files, as names for what is made from them."""

from __future__ import annotations

import hashlib
from pathlib import Path


def fingerprint(*parts: Path | str | bytes) -> str:
    """Hash files, folders and strings, in order.

    Args:
        parts: A file, a folder (all files below it with their names, without byte code), a
            string, or bytes.

    Returns:
        16 hexadecimal digits of the SHA-256.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            files = [part] if part.is_file() else sorted(_sources(part))
            for file in files:
                digest.update(f"{file.relative_to(part)}\0{file.stat().st_size}\0".encode())
                digest.update(file.read_bytes())
        else:
            digest.update(part.encode() if isinstance(part, str) else part)
            digest.update(b"\0")
    return digest.hexdigest()[:16]


def _sources(folder: Path) -> list[Path]:
    hidden = {"__pycache__", ".venv"}
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and not hidden & set(path.relative_to(folder).parts)
    ]


def file_digest(path: Path, algorithm: str) -> str:
    """Hash a file with an algorithm of `hashlib`, and return hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
