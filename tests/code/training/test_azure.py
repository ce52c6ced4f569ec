"""The main job with a container of Azure: push with its proof, deploy's pull; run by hand."""

from __future__ import annotations

import json

import pytest

from tests import azurite
from tests.code.flows.harness import Lab

pytestmark = [pytest.mark.timeout(900), azurite.needed]

_SAVE = """
import json, sys
from tasks.bucket.stores.azure.blocks import AzureBlobStorageContainer, AzureBlobStorageCredentials
for name, (text, folder) in json.loads(sys.argv[1]).items():
    AzureBlobStorageContainer(
        container_name="models", base_folder=folder,
        credentials=AzureBlobStorageCredentials(connection_string=text),
    ).save(name, overwrite=True, _sync=True)
"""


def test_model_is_pushed_proven_and_deployed_from_azure(lab: Lab, delivered: str) -> None:
    from azure.storage.blob import BlobServiceClient

    with azurite.run_azurite() as emulator:
        service = BlobServiceClient.from_connection_string(emulator.full)
        container = service.create_container(azurite.CONTAINER)
        blocks = {
            "slipway-read-write": (emulator.full, "dvc"),
            "slipway-results": (emulator.full, "results"),
            "slipway-read": (emulator.read_only, "dvc"),
            "wrong": (emulator.wrong, "dvc"),
        }
        lab.run_code(_SAVE, [json.dumps(blocks)])
        on_azure = {"SLIPWAY_STORE": "azure"}

        pushed = lab.run("push", {"ref": "main"}, **on_azure)
        assert pushed.state == "Completed", pushed.log
        assert "objects verified in azure://models/dvc" in pushed.log
        again = lab.run("push", {"ref": "main"}, **on_azure)
        assert "objects are in azure://models/dvc" in again.log, again.log
        names = [blob.name for blob in container.list_blobs()]
        assert lab.model_key() in names
        assert any(name.startswith("results/") for name in names)

        container.upload_blob(lab.model_key(), b"other bytes", overwrite=True)
        mended = lab.run("push", {"ref": "main"}, **on_azure)
        assert "replacing model/wine: wrong content in the bucket" in mended.log
        for block, words in (("slipway-read", "PermissionMismatch"), ("wrong", "Authorization")):
            container.delete_blob(lab.model_key())
            failed = lab.run("push", {"ref": "main"}, SLIPWAY_READ_WRITE_BLOCK=block, **on_azure)
            assert failed.error == "TerminalError", failed.log
            assert f"credentials of block azure-blob-storage-container/{block}" in failed.message
            assert words in failed.message
            lab.run("push", {"ref": "main"}, **on_azure)

        lab.s3().delete_object(Bucket=lab.bucket, Key=lab.model_key())
        deployed = lab.run("deploy", {"ref": "main", "environment": "local"}, **on_azure)
        assert deployed.state == "Completed", deployed.log
        assert lab.is_live(lab.head())
    assert lab.run("push", {"ref": "main"}).state == "Completed", "the bucket of S3 is as before"
