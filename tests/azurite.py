"""Azurite, the emulator of Azure Blob Storage, where SLIPWAY_TEST_AZURITE names its program."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec

import pytest

from tasks.core.free_port import find_free_port

CONTAINER = "models"
_ACCOUNT = "devstoreaccount1"
# Every Azurite has it; it opens nothing else.
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_PROGRAM = os.environ.get("SLIPWAY_TEST_AZURITE", "")
needed = pytest.mark.skipif(
    not _PROGRAM or find_spec("prefect_azure") is None,
    reason="SLIPWAY_TEST_AZURITE names no Azurite, or the extra `azure` is not installed",
)


class Azurite:
    """A running emulator.

    Args:
        port: Its port.
    """

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/{_ACCOUNT}"
        self.full = self._with_key(_KEY)
        self.wrong = self._with_key("A" * 86 + "==")

    def _with_key(self, key: str) -> str:
        return f"AccountName={_ACCOUNT};AccountKey={key};BlobEndpoint={self._url};"

    @property
    def read_only(self) -> str:
        """Connection string of a signature that can read and list."""
        from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas

        signature = generate_account_sas(
            _ACCOUNT,
            _KEY,
            ResourceTypes(container=True, object=True),
            AccountSasPermissions(read=True, list=True),
            datetime.now(UTC) + timedelta(hours=1),
        )
        return f"BlobEndpoint={self._url};SharedAccessSignature={signature}"


@contextmanager
def run_azurite() -> Iterator[Azurite]:
    """Run the emulator, in memory."""
    port = find_free_port()
    argv = [
        "node",
        _PROGRAM,
        "--inMemoryPersistence",
        "--disableTelemetry",
        "--skipApiVersionCheck",
    ]
    with subprocess.Popen(
        [*argv, "--blobPort", str(port)], stdout=subprocess.PIPE, text=True
    ) as it:
        try:
            assert it.stdout
            for line in it.stdout:
                if "successfully listens" in line:
                    break
            yield Azurite(port)
        finally:
            it.kill()
