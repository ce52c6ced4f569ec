"""The blocks that hold secrets, created from environment variables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import Secret, SecretStr

from deployments.catalogue.block_variables import (
    DVC_FOLDER,
    NAMES,
    NOTIFY,
    NOTIFY_VARIABLE,
    READ,
    READ_WRITE,
    RESULTS,
    AzureStorage,
    ObjectStorage,
)
from deployments.catalogue.difference import Values
from tasks.bucket.stores.catalogue import StoreKind, find_kind
from tasks.core.secret_blocks import SECRETS, variable

if TYPE_CHECKING:
    from prefect.blocks.core import Block
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import BlockDocument

_PENDING = UUID(int=0)
_FOLDERS = (
    (READ_WRITE, READ_WRITE, DVC_FOLDER),
    (READ, READ, DVC_FOLDER),
    (RESULTS, READ_WRITE, "results"),
)  # name of a block, whose credentials it has, its folder
_SLACK = "https://hooks.slack.com/"


class Blocks:
    """The blocks whose variables are set; blocks that people have created are left alone.

    Args:
        client: A client of the server.
        environment: The variables.
    """

    kind = "block"

    def __init__(self, client: PrefectClient, environment: Mapping[str, str]) -> None:
        self._client = client
        self._environment = environment
        self._declared = _declared(environment)
        self._saved: set[str] = set()

    async def desired(self) -> Values:
        """Return the declared content of the blocks.

        Raises:
            ConfigurationError: A block that every flow needs does not exist, and its variables are
                not set.
        """
        kind, storage = find_storage(self._environment)
        if not storage.is_in(self._environment):
            present = [await self.has(f"{kind.block_type}/{name}") for name in NAMES]
            if not all(present):
                storage.from_environment(self._environment)  # says what is missing
        return {name: _plain(block) for name, block in self._declared.items()}

    async def actual(self) -> Values:
        """Return their content; an empty one for a block that cannot be read."""
        from pydantic import ValidationError

        contents: dict[str, dict[str, Any]] = {}
        for name, block in self._declared.items():
            if await self._exists(name):
                try:
                    loaded = await type(block).aload(name.partition("/")[2], client=self._client)
                    contents[name] = _plain(loaded)
                except (ValueError, ValidationError):
                    contents[name] = {}
        return contents

    async def put(self, name: str) -> None:
        """Save a block; first the credentials that it names, to store a reference and no copy."""
        block = self._declared[name]
        for other_name, other in self._declared.items():
            if other is getattr(block, "credentials", None) and other_name not in self._saved:
                await self.put(other_name)
        await block.asave(name.partition("/")[2], overwrite=True, client=self._client)
        self._saved.add(name)

    async def remove(self, name: str) -> None:
        """Remove nothing: an undeclared block may be somebody else's."""

    async def has(self, name: str) -> bool:
        """Return whether a block is declared, or exists on the server."""
        return name in self._declared or await self._exists(name)

    async def notify(self) -> UUID | None:
        """Return the id of the block by which automations notify; None if there will be none."""
        if document := await notification_block(self._client):
            return document.id
        return _PENDING if self._environment.get(NOTIFY_VARIABLE) else None

    async def _exists(self, name: str) -> bool:
        from prefect.exceptions import ObjectNotFound

        slug, _, own = name.partition("/")
        try:
            await self._client.read_block_document_by_name(own, slug, include_secrets=False)
        except ObjectNotFound:
            return False
        return True


def find_storage(
    environment: Mapping[str, str],
) -> tuple[StoreKind, type[ObjectStorage] | type[AzureStorage]]:
    """Return the kind of store that variables choose, and what reads its own variables.

    Raises:
        ConfigurationError: There is no such kind.
    """
    kind = find_kind(environment.get("SLIPWAY_STORE") or "s3")
    return kind, AzureStorage if kind.scheme == "azure" else ObjectStorage


async def notification_block(client: PrefectClient) -> BlockDocument | None:
    """Return the block by which automations notify, of any type: the one saved last, or None."""
    from prefect.client.schemas.objects import BlockDocument

    query = {"block_documents": {"name": {"any_": [NOTIFY]}}, "include_secrets": True}
    response = await client.request("POST", "/block_documents/filter", json=query)
    documents = BlockDocument.model_validate_list(response.json())
    return max(documents, key=lambda document: str(document.updated), default=None)


def _declared(environment: Mapping[str, str]) -> dict[str, Block]:
    """Return the blocks of the variables that are set, by `type/name`; referenced ones first."""
    from prefect.blocks.system import Secret as SecretBlock

    blocks: dict[str, Block] = {}
    kind, storage = find_storage(environment)
    if storage.is_in(environment):
        kind.require_packages()
        declared = storage.from_environment(environment)
        if isinstance(declared, AzureStorage):
            blocks |= _container_blocks(declared)
        else:
            blocks |= _bucket_blocks(declared)
    for name in SECRETS:
        if value := environment.get(variable(name)):
            blocks[f"secret/{name}"] = SecretBlock(value=SecretStr(value))
    if url := environment.get(NOTIFY_VARIABLE):
        block = _notification(url)
        blocks[f"{block.get_block_type_slug()}/{NOTIFY}"] = block
    return blocks


def _bucket_blocks(storage: ObjectStorage) -> dict[str, Block]:
    from tasks.bucket.stores.s3.blocks import AwsClientParameters, AwsCredentials, S3Bucket

    identities = {
        name: AwsCredentials(
            aws_access_key_id=identity.key_id,
            aws_secret_access_key=SecretStr(identity.secret),
            region_name=storage.region,
            aws_client_parameters=AwsClientParameters(endpoint_url=storage.endpoint_url),
        )
        for name, identity in ((READ_WRITE, storage.read_write), (READ, storage.read))
    }
    buckets = {
        name: S3Bucket(
            bucket_name=storage.bucket, credentials=identities[owner], bucket_folder=folder
        )
        for name, owner, folder in _FOLDERS
    }
    return _by_type(identities) | _by_type(buckets)


def _container_blocks(storage: AzureStorage) -> dict[str, Block]:
    from tasks.bucket.stores.azure.blocks import (
        AzureBlobStorageContainer,
        AzureBlobStorageCredentials,
    )

    identities = {
        name: AzureBlobStorageCredentials(connection_string=SecretStr(text))
        if text
        else AzureBlobStorageCredentials(account_url=storage.account_url)
        for name, text in ((READ_WRITE, storage.read_write), (READ, storage.read))
    }
    containers = {
        name: AzureBlobStorageContainer(
            container_name=storage.container, credentials=identities[owner], base_folder=folder
        )
        for name, owner, folder in _FOLDERS
    }
    return _by_type(identities) | _by_type(containers)


def _by_type(blocks: Mapping[str, Block]) -> dict[str, Block]:
    return {f"{block.get_block_type_slug()}/{name}": block for name, block in blocks.items()}


def _notification(url: str) -> Block:
    from prefect.blocks.fields import SecretDict
    from prefect.blocks.notifications import CustomWebhookNotificationBlock, SlackWebhook

    if url.startswith(_SLACK):
        return SlackWebhook(url=SecretStr(url))
    return CustomWebhookNotificationBlock(
        name="Slipway",
        url="{{ url }}",
        json_data={"subject": "{{ subject }}", "text": "{{ body }}"},
        headers=None,
        cookies=None,
        secrets=SecretDict({"url": url}),
    )


def _plain(block: Block) -> dict[str, Any]:
    """Return the content of a block, without Prefect's own fields."""
    plain: dict[str, Any] = _without_marks(block.model_dump())
    return plain


def _without_marks(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key: _without_marks(item)
            for key, item in value.items()
            if not key.startswith("_") and key != "block_type_slug"
        }
    if isinstance(value, SecretStr | Secret):
        # One class for all, so that equal secrets are equal.
        secret = value.get_secret_value()
        return SecretStr(secret if isinstance(secret, str) else json.dumps(secret))
    return value
