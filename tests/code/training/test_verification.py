"""What the bucket tells of objects is compared with Git; nothing is read again that need not be."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from tasks.bucket import requests
from tasks.bucket.bucket import Bucket
from tasks.bucket.objects import StoredObject
from tasks.bucket.requests import send_object
from tasks.bucket.stores.s3 import store as s3
from tasks.bucket.verification import Verifier
from tests.code.flows.harness import Lab

_PART_BYTES = 5 << 20  # the least that S3 takes


class Store:
    """A folder of the stack's bucket, a cache, and the requests so far."""

    def __init__(self, lab: Lab, cache: Path) -> None:
        self.client: Any = lab.s3()
        self.client.meta.events.register("before-call.s3", self._note)
        self.bucket = Bucket("read", "slipway", cache.name, {}, s3.S3Store(lab.bucket, self.client))
        self.cache = cache
        self.requests: list[str] = []

    def _note(self, model: Any, **_: Any) -> None:
        self.requests.append(model.name)

    def make(self, content: bytes) -> StoredObject:
        """Put an object into the cache."""
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        stored = StoredObject(md5, len(content), md5, "train")
        file = self.cache / stored.key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return stored

    async def find_faults(self, *objects: StoredObject) -> tuple[list[str], set[str]]:
        """Return the faults, and the kinds of requests that they took."""
        self.requests.clear()
        verifier = Verifier(self.bucket, self.cache)
        faults = await verifier.find_faults(objects)
        reads = self.requests.count("GetObject")
        assert await verifier.find_faults(objects) == faults
        assert self.requests.count("GetObject") == reads, "no object is read twice"
        return list(faults.values()), set(self.requests)


@pytest.fixture
def store(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(s3, "_PART_BYTES", _PART_BYTES)
    return Store(lab, tmp_path)


async def test_object_in_parts_is_proven_without_reading_it(store: Store) -> None:
    content = os.urandom(2 * _PART_BYTES + 9)
    stored = store.make(content)
    send_object(stored, store.bucket, store.cache, {})
    assert await store.find_faults(stored) == ([], {"HeadObject"})

    def encrypt(parsed: dict[str, Any], **_: Any) -> None:
        parsed["ETag"] = '"0f-3"'  # as with a key of KMS: it is no hash of the content

    store.client.meta.events.register("after-call.s3.HeadObject", encrypt)
    assert await store.find_faults(stored) == ([], {"HeadObject"}), "by its SHA-256"
    store.client.meta.events.unregister("after-call.s3.HeadObject", encrypt)

    file = store.cache / stored.key
    file.write_bytes(content[::-1])
    reads = {"HeadObject", "GetObject"}
    assert await store.find_faults(stored) == ([], reads), "a wrong file proves nothing"
    send_object(stored, store.bucket, store.cache, {})
    md5 = hashlib.md5(content[::-1], usedforsecurity=False).hexdigest()
    assert await store.find_faults(stored) == ([f"md5 is {md5}"], reads), "not even of itself"
    file.write_bytes(content)
    assert await store.find_faults(stored) == ([f"md5 is {md5}"], reads)


async def test_many_objects_are_proven_by_a_listing(store: Store) -> None:
    objects = [store.make(b"%d" % number) for number in range(25)]
    for stored in objects[3:]:
        send_object(stored, store.bucket, store.cache, {})
    wrong, absent = objects[3], objects[:3]
    store.client.put_object(
        Bucket=store.bucket.name, Key=requests.object_key(store.bucket, wrong), Body=b"x"
    )
    faults, kinds = await store.find_faults(*objects)
    assert sorted(faults) == ["md5 is 9dd4e461268c8034f5c8564e155c67a6", *["missing"] * len(absent)]
    assert store.requests.count("HeadObject") == 2 * (1 + len(absent)), (
        "the others are right as listed"
    )
    assert kinds == {"GetObject", "HeadObject", "ListObjectsV2"}
