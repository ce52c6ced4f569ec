"""Kinds of stores: which a host has, what its variables say, and a real one of each."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from deployments.catalogue.block_variables import AzureStorage
from deployments.catalogue.resources.blocks import find_storage
from tasks.bucket.bucket import AbsentObject, Bucket, explain, explaining_errors
from tasks.bucket.objects import StoredObject
from tasks.bucket.requests import download, list_objects, make_address, send_object
from tasks.bucket.stores.catalogue import STORES, StoreKind, find_kind
from tasks.bucket.verification import Verifier
from tasks.core.errors import ConfigurationError, TerminalError, TransientError
from tests import azurite
from tests.code.model.support import dvc

CONTENT = b"a model" * 1000
STORED = StoredObject(
    hashlib.md5(CONTENT, usedforsecurity=False).hexdigest(), len(CONTENT), "model/wine", "train"
)
STRINGS = {
    "SLIPWAY_AZURE_READ_WRITE_CONNECTION_STRING": "w",
    "SLIPWAY_AZURE_READ_CONNECTION_STRING": "r",
}


def test_unknown_store_names_the_variable_and_those_that_are_known() -> None:
    with pytest.raises(ConfigurationError, match=r"SLIPWAY_STORE=gs: .*; known are s3, azure"):
        find_storage({"SLIPWAY_STORE": "gs"})
    assert find_kind("azure").block_type == "azure-blob-storage-container"
    assert find_storage({})[0] is STORES["s3"]


def test_store_that_is_not_installed_names_the_command() -> None:
    absent = StoreKind("azure", "x", "tasks.bucket.stores.absent.store", "azure")
    with pytest.raises(
        ConfigurationError, match=r"SLIPWAY_STORE=azure: packages are not"
    ) as refused:
        absent.require_packages()
    assert "uv sync --inexact --extra azure" in refused.value.next_step


def test_container_has_two_connection_strings_or_identities_without_keys() -> None:
    container = {"SLIPWAY_AZURE_CONTAINER": "models"}
    url = {"SLIPWAY_AZURE_ACCOUNT_URL": "https://a.blob.core.windows.net"}
    assert AzureStorage.from_environment(container | STRINGS).read == "r"
    assert AzureStorage.from_environment(container | url).account_url.startswith("https://a.")
    assert "w" not in repr(AzureStorage.from_environment({**container, **STRINGS})).split("=")[-1]
    with pytest.raises(ConfigurationError, match=r"not set: SLIPWAY_AZURE_READ_WRITE_CONN"):
        AzureStorage.from_environment(container)
    with pytest.raises(ConfigurationError, match=r"ACCOUNT_URL and .*READ_WRITE.* are both set"):
        AzureStorage.from_environment(container | url | STRINGS)


def _container(connection: str, name: str = azurite.CONTAINER) -> Bucket:
    from azure.storage.blob import BlobServiceClient

    from tasks.bucket.stores.azure.store import AzureStore

    service = BlobServiceClient.from_connection_string(connection, retry_total=0)
    store = AzureStore(service.get_container_client(name), service)
    return Bucket("read", "slipway-read", "dvc", {}, store, STORES["azure"])


def find_fault(bucket: Bucket, stored: StoredObject) -> str | None:
    verifier = Verifier(bucket, Path("/nowhere"))
    return asyncio.run(verifier.find_faults([stored])).get(stored)


@azurite.needed
@pytest.mark.filterwarnings("ignore")
def test_objects_are_proven_in_a_container_of_azure(tmp_path: Path) -> None:
    (tmp_path / STORED.key).parent.mkdir(parents=True)
    (tmp_path / STORED.key).write_bytes(CONTENT)
    with azurite.run_azurite() as emulator:
        bucket = _container(emulator.full)
        store: Any = bucket.store
        with pytest.raises(
            TerminalError, match=r"bucket 'models' of block azure-blob-.* not exist"
        ):
            find_fault(bucket, STORED)
        store.client.create_container()
        assert find_fault(bucket, STORED) == "missing"
        send_object(STORED, bucket, tmp_path, {"sse": "AES256"})
        assert find_fault(bucket, STORED) is None
        assert download(bucket, STORED, tmp_path / "copy") == STORED.md5
        (entry,) = list_objects(bucket, "dvc/")
        assert entry.md5 == STORED.md5
        with pytest.raises(AbsentObject), explaining_errors(bucket):
            store.open(entry.key, '"0x1"').read()
        assert "sig=" in make_address(bucket, entry.key, 60)

        store.put(entry.key, CONTENT[:-1] + b"x")
        assert str(find_fault(bucket, STORED)).startswith("md5 is ")
        blob = store.client.get_blob_client(entry.key)  # of parts, Azure knows no md5
        blob.stage_block("MQ==", CONTENT)
        blob.commit_block_list(["MQ=="])
        assert store.head(entry.key).md5 == ""
        assert find_fault(bucket, STORED) is None

        reader = _container(emulator.read_only)
        assert find_fault(reader, STORED) is None
        with pytest.raises(TerminalError, match=r"rejected the credentials.*PermissionMismatch"):
            send_object(STORED, reader, tmp_path, {})
        with pytest.raises(TerminalError, match=r"signs no other"):
            make_address(reader, entry.key, 60)
        with pytest.raises(TerminalError, match=r"rejected the credentials of block azure-blob-st"):
            find_fault(_container(emulator.wrong), STORED)
    with pytest.raises(TransientError, match=r"azure://models/dvc is unreachable"):
        find_fault(bucket, STORED)
    assert not isinstance(explain(bucket, OSError()), TerminalError)


@pytest.fixture
def public(tmp_path: Path) -> Iterator[str]:
    """The address of a public bucket, of which nobody needs a key."""
    file = tmp_path / "bucket" / "dvc" / STORED.key
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path / "bucket")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/dvc"
        server.shutdown()


def test_anybody_pulls_from_a_public_remote(tmp_path: Path, public: str) -> None:
    folder = tmp_path / "clone"
    (folder / ".dvc").mkdir(parents=True)
    subprocess.run(["git", "init", "-q", folder], check=True)
    config = f"[core]\nanalytics = false\n['remote \"read\"']\nurl = {public}\n"
    (folder / ".dvc" / "config").write_text(config)
    out = f"outs:\n- {{md5: {STORED.md5}, size: {STORED.size}, hash: md5, path: wine}}\n"
    (folder / "wine.dvc").write_text(out)
    dvc("pull", "-r", "read", cwd=folder)
    assert (folder / "wine").read_bytes() == CONTENT
