"""Proofs that the bucket has what Git says, by what the store itself has computed of it.

Of an object that was sent in one part the ETag is the md5. Of one in parts, ETag and checksum are
hashes of the parts' hashes: they are computed of the file in this host's cache, too, once its md5
is known to be the one in Git. Only where the store tells neither, or this host has no such file, is
the object downloaded: encrypted with a key of KMS and sent by another program, for instance.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from tasks.bucket.bucket import AbsentObject, Bucket, explaining_errors
from tasks.bucket.objects import StoredObject
from tasks.bucket.requests import object_key, read_md5
from tasks.bucket.stores.base.store import CONNECTIONS, ObjectState
from tasks.core import commands
from tasks.core.fingerprint import file_digest

Algorithm = Literal["md5", "sha256"]
_READ_BYTES = 1 << 20
# To read a page of a listing, up to 1,000 objects, costs as much as to ask for a dozen of them.
_FEW = 20


class Verifier:
    """Compares objects of the bucket with their hashes in Git; reads none a second time.

    Args:
        bucket: The bucket.
        cache: This host's cache.
    """

    def __init__(self, bucket: Bucket, cache: Path) -> None:
        self._bucket = bucket
        self._cache = cache
        self._hashes: dict[tuple[str, Algorithm, int], bytes | None] = {}
        self._reads: dict[str, tuple[str, str]] = {}  # md5 and ETag of what was read

    async def find_faults(self, objects: Sequence[StoredObject]) -> dict[StoredObject, str]:
        """Describe the fault of each object that is missing or wrong in the bucket."""
        right = await asyncio.to_thread(lambda: {*self._list_right(objects)})
        limit = asyncio.Semaphore(CONNECTIONS)

        async def check(stored: StoredObject) -> str | None:
            async with limit:
                return await asyncio.to_thread(self._find_fault, stored)

        others = [stored for stored in objects if stored not in right]
        answers = await asyncio.gather(*map(check, others))
        return {stored: why for stored, why in zip(others, answers, strict=True) if why}

    def _list_right(self, objects: Sequence[StoredObject]) -> Iterator[StoredObject]:
        """Yield objects that listings show to be right; none where few lie on a page."""
        waiting = sorted((object_key(self._bucket, stored), stored.md5) for stored in objects)
        by_md5 = {stored.md5: stored for stored in objects}
        while len(waiting) >= _FEW:
            first = waiting[0][0]
            with explaining_errors(self._bucket):
                page, is_last = self._bucket.store.list_page(
                    object_key(self._bucket, None),
                    first[:-1],  # the last name before it
                )
            listed = {item.key: item for item in page}
            end = max(listed) if listed and not is_last else None
            on_page = [pair for pair in waiting if end is None or pair[0] <= end]
            for key, md5 in on_page:
                size, item = by_md5[md5].size, listed.get(key)
                if item and size in (None, item.size) and _is_md5(item, md5):
                    yield by_md5[md5]
            waiting = waiting[len(on_page) :]
            if len(on_page) < _FEW:
                return

    def _find_fault(self, stored: StoredObject) -> str | None:
        """Describe the fault of an object; return None if it is right."""
        bucket, key = self._bucket, object_key(self._bucket, stored)
        try:
            with explaining_errors(bucket):
                head = bucket.store.head(key)
                if stored.size is not None and head.size != stored.size:
                    return f"size is {head.size}, should be {stored.size}"
                if _is_md5(head, stored.md5) or self._is_file(stored, head):
                    return None
                md5, etag = self._reads.get(stored.md5, ("", ""))
                if etag != head.etag:
                    log = commands.run_logger()
                    log.info("reading %s: the bucket has no hash of it to compare", stored.path)
                    md5 = read_md5(bucket, stored, head.etag)
                    self._reads[stored.md5] = (md5, head.etag)
                return None if md5 == stored.md5.removesuffix(".dir") else f"md5 is {md5}"
        except AbsentObject:
            return "missing"

    def _is_file(self, stored: StoredObject, head: ObjectState) -> bool:
        """Check that the store's hash is that of the file in the cache, which is the right one."""
        file = self._cache / stored.key
        if not file.is_file() or file.stat().st_size != head.size:
            return False
        etag, _, etag_parts = head.etag.strip('"').partition("-")
        checksum, _, checksum_parts = head.sha256.partition("-")
        parts = int(etag_parts or checksum_parts or 1)
        size = self._read_part_size(stored) if parts > 1 else head.size
        if not size or -(-head.size // size) != parts:
            return False
        if etag_parts:
            own = self._hash(stored, "md5", size)
            if own is not None and own.hex() == etag:
                return True
        if not checksum:
            return False
        own = self._hash(stored, "sha256", size if checksum_parts else 0)
        return own is not None and base64.b64encode(own).decode() == checksum

    def _read_part_size(self, stored: StoredObject) -> int:
        """Return the bytes of the first part of an object; 0 if the store does not tell."""
        try:
            return self._bucket.store.read_part_size(object_key(self._bucket, stored))
        except self._bucket.store.errors:
            return 0

    def _hash(self, stored: StoredObject, algorithm: Algorithm, size: int) -> bytes | None:
        """Hash a cached file in parts; None if its md5 is not the one in Git."""
        name = (stored.md5, algorithm, size)
        if name not in self._hashes:
            file = self._cache / stored.key
            is_right = file_digest(file, "md5") == stored.md5.removesuffix(".dir")
            self._hashes[name] = hash_parts(file, algorithm, size) if is_right else None
        return self._hashes[name]


def hash_parts(file: Path, algorithm: Algorithm, size: int) -> bytes:
    """Return the hash of the hashes of a file's parts, as S3 does of an object in parts.

    Args:
        file: The file.
        algorithm: Of all hashes.
        size: Bytes of each part but the last; 0 for the hash of the file itself.
    """
    parts, left = [_new_hash(algorithm)], size
    with file.open("rb") as opened:
        while chunk := opened.read(min(left, _READ_BYTES) if size else _READ_BYTES):
            parts[-1].update(chunk)
            left -= len(chunk)
            if size and not left:
                parts.append(_new_hash(algorithm))
                left = size
    if not size:
        return parts[0].digest()
    if left == size and len(parts) > 1:
        parts.pop()
    total = _new_hash(algorithm)
    for part in parts:
        total.update(part.digest())
    return total.digest()


def _new_hash(algorithm: Algorithm) -> hashlib._Hash:
    return hashlib.new(algorithm, usedforsecurity=False)


def _is_md5(state: ObjectState, md5: str) -> bool:
    """Check the md5 that the store has calculated; of an object in parts it has none."""
    return state.md5 == md5.removesuffix(".dir")
