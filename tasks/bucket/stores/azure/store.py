"""A container of Azure Blob Storage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from tasks.bucket.stores.base.store import Body, Fault, ObjectState, OpenedStore
from tasks.core.errors import TerminalError

if TYPE_CHECKING:
    from azure.storage.blob import BlobServiceClient, ContainerClient

    from tasks.bucket.stores.azure.blocks import AzureBlobStorageCredentials

_ABSENT = {"BlobNotFound", "ConditionNotMet", "ResourceNotFound"}
# What is larger is sent in blocks. Of one that is not, the store calculates the md5.
_SINGLE_BYTES = 64 << 20
_READ_BYTES = 4 << 20


@dataclass(frozen=True)
class AzureStore:
    """A container of Azure Blob Storage.

    Attributes:
        client: A client of the container, with its credentials.
        service: A client of the account, with the same ones.
    """

    client: ContainerClient
    service: BlobServiceClient

    @property
    def name(self) -> str:
        """Name of the container."""
        return str(self.client.container_name)

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """Types of the errors that requests raise."""
        from azure.core.exceptions import AzureError

        return (AzureError,)

    def diagnose(self, error: Exception) -> Fault:
        """Return what an error means."""
        from azure.core.exceptions import ClientAuthenticationError

        status = getattr(error, "status_code", None)
        word = getattr(error, "error_code", None)
        code = str(getattr(word, "value", word) or status or "")
        # Without a status, the host has found no identity.
        if status in (401, 403) or isinstance(error, ClientAuthenticationError):
            return Fault("denied", code or "no identity was found")
        if code == "ContainerNotFound":
            return Fault("no bucket", code)
        if code in _ABSENT or status in (404, 412):
            return Fault("absent", code)
        return Fault("unreachable", code)

    def head(self, key: str) -> ObjectState:
        """Describe an object."""
        return _describe(self.client.get_blob_client(key).get_blob_properties())

    def open(self, key: str, etag: str = "") -> Body:
        """Open an object, with an ETag only if it still has that content."""
        from azure.core import MatchConditions

        condition: dict[str, Any] = {}
        if etag:
            condition = {"etag": etag, "match_condition": MatchConditions.IfNotModified}
        return cast("Body", self.client.download_blob(key, **condition))

    def put(self, key: str, content: bytes, kind: str = "application/octet-stream") -> None:
        """Put a small object, with its media type."""
        from azure.storage.blob import ContentSettings

        settings = ContentSettings(content_type=kind)
        self.client.upload_blob(key, content, overwrite=True, content_settings=settings)

    def send(self, key: str, file: Path, options: Mapping[str, str]) -> None:
        """Put a file of any size; the account says how it is encrypted, not an option."""
        with file.open("rb") as opened:
            # The store compares the md5 of each request with what has arrived.
            self.client.upload_blob(
                key, opened, length=file.stat().st_size, overwrite=True, validate_content=True
            )

    def list_objects(self, prefix: str) -> Iterator[ObjectState]:
        """Yield the objects below a prefix in the order of their keys."""
        for entry in self.client.list_blobs(name_starts_with=prefix):
            yield _describe(entry)

    def list_page(self, prefix: str, after: str) -> tuple[list[ObjectState], bool]:
        """Return none: a listing cannot begin after a key, so each object is asked for."""
        return [], True

    def read_part_size(self, key: str) -> int:
        """Return 0: Azure keeps no hash of blocks to compare with."""
        return 0

    def delete(self, key: str) -> None:
        """Delete an object; one that is not there is none to delete, as on S3."""
        from azure.core.exceptions import ResourceNotFoundError

        try:
            self.client.delete_blob(key)
        except ResourceNotFoundError as error:
            if self.diagnose(error).kind != "absent":
                raise

    def sign(self, key: str, seconds: int) -> str:
        """Return an address at which anybody can read one object for a time.

        Raises:
            TerminalError: The credentials are a shared access signature, which signs nothing.
        """
        from azure.storage.blob import BlobSasPermissions, generate_blob_sas

        now = datetime.now(UTC)
        end = now + timedelta(seconds=seconds)
        credential = self.service.credential
        signer: dict[str, Any]
        if secret := getattr(credential, "account_key", None):
            signer = {"account_key": secret}
        elif hasattr(credential, "get_token"):
            signer = {"user_delegation_key": self.service.get_user_delegation_key(now, end)}
        else:
            raise TerminalError(
                f"cannot make an address of {key}: the credentials of container {self.name} are a"
                " shared access signature, which signs no other",
                state="nothing was changed",
                next_step="use an account key or an identity in the block, or download the object",
            )
        signature = generate_blob_sas(
            str(self.service.account_name),
            self.name,
            key,
            permission=BlobSasPermissions(read=True),
            expiry=end,
            **signer,
        )
        return f"{self.client.get_blob_client(key).url}?{signature}"


def _describe(blob: Any) -> ObjectState:
    # Absent if the object was sent in blocks.
    md5 = blob.content_settings.content_md5
    # A listing gives the ETag without quotes, a single object with them.
    etag = f'"{blob.etag.strip(chr(34))}"'
    return ObjectState(blob.name, blob.size, etag, blob.last_modified, bytes(md5 or b"").hex())


async def open_store(name: str) -> OpenedStore:
    """Read address and credentials of a container from an `AzureBlobStorageContainer` block."""
    from azure.storage.blob import BlobServiceClient, ExponentialRetry

    from tasks.bucket.stores.azure.blocks import AzureBlobStorageContainer

    block = cast("AzureBlobStorageContainer", await AzureBlobStorageContainer.aload(name))
    credentials = block.credentials
    options: dict[str, Any] = {
        "connection_timeout": 5,
        "read_timeout": 60,
        "retry_policy": ExponentialRetry(initial_backoff=1, increment_base=1, retry_total=1),
        "max_single_put_size": _SINGLE_BYTES,
        "max_single_get_size": _READ_BYTES,
        "max_chunk_get_size": _READ_BYTES,
    }
    if credentials.connection_string is None:
        service = BlobServiceClient(
            str(credentials.account_url), credential=_identity(credentials), **options
        )
    else:
        text = credentials.connection_string.get_secret_value()
        try:
            service = BlobServiceClient.from_connection_string(text, **options)
        except ValueError as error:
            raise TerminalError(
                f"block azure-blob-storage-container/{name} has no valid connection string",
                state="nothing was started",
                next_step="copy it again from the account's page, then: slipway apply",
            ) from error
    store = AzureStore(service.get_container_client(block.container_name), service)
    return OpenedStore(store, (block.base_folder or "").strip("/"), _variables(credentials))


def _identity(credentials: AzureBlobStorageCredentials) -> Any:
    """Return the service principal of a block, else what the host is: a workload, a machine."""
    from azure.identity import ClientSecretCredential, DefaultAzureCredential

    if credentials.client_id and credentials.tenant_id and credentials.client_secret:
        return ClientSecretCredential(
            credentials.tenant_id,
            credentials.client_id,
            credentials.client_secret.get_secret_value(),
        )
    return DefaultAzureCredential()


def _variables(credentials: AzureBlobStorageCredentials) -> dict[str, str]:
    if credentials.connection_string is not None:
        return {"AZURE_STORAGE_CONNECTION_STRING": credentials.connection_string.get_secret_value()}
    host = urlsplit(str(credentials.account_url)).hostname or ""
    variables = {"AZURE_STORAGE_ACCOUNT": host.partition(".")[0]}
    if credentials.client_id and credentials.client_secret:
        variables |= {
            "AZURE_CLIENT_ID": credentials.client_id,
            "AZURE_TENANT_ID": str(credentials.tenant_id),
            "AZURE_CLIENT_SECRET": credentials.client_secret.get_secret_value(),
        }
    return variables
