"""The registry of AWS: repositories to create, logins that expire, an API of its own to delete."""

from __future__ import annotations

import base64
import re

from pydantic import SecretStr

from tasks.core.errors import ConfigurationError
from tasks.images.reference import Reference
from tasks.images.registry import Login, Repository
from tasks.platforms.sagemaker.aws import Aws

_HOST = re.compile(r"(?P<account>\d{12})\.dkr[.-]ecr(-fips)?\.(?P<region>[a-z0-9-]+)\..+")
_ABSENT = "RepositoryNotFoundException"
_THERE = "RepositoryAlreadyExistsException"


def is_ecr(where: Reference) -> bool:
    """Return whether a repository is in Amazon's registry."""
    return bool(_HOST.fullmatch(where.host))


async def make_repository(aws: Aws, where: Reference) -> None:
    """Create a repository, unless it is there.

    Raises:
        ConfigurationError: It is in another region, from which endpoints take no images.
    """
    if not await has_repository(aws, where):
        await aws.call(
            "ecr",
            "create_repository",
            ignore=[_THERE],
            registryId=_account(where),
            repositoryName=where.repository,
        )


async def has_repository(aws: Aws, where: Reference) -> bool:
    """Return whether a repository exists.

    Returns:
        Whether it is.

    Raises:
        ConfigurationError: It is in another region, from which endpoints take no images.
    """
    match = _HOST.fullmatch(where.host)
    if match and match["region"] != aws.region:
        raise ConfigurationError(
            f"repository {where.name} is in {match['region']}, the endpoint in {aws.region}",
            state="nothing was started",
            next_step="set `repository` or `region` in the environment's file: they go together",
        )
    answer = await aws.call(
        "ecr",
        "describe_repositories",
        ignore=[_ABSENT],
        registryId=_account(where),
        repositoryNames=[where.repository],
    )
    return answer is not None


async def log_in(aws: Aws) -> Login:
    """Get a login to the registry, for twelve hours."""
    answer = await aws.call("ecr", "get_authorization_token") or {}
    token = base64.b64decode(answer["authorizationData"][0]["authorizationToken"]).decode()
    username, _, password = token.partition(":")
    return Login(username, SecretStr(password))


class EcrRepository(Repository):
    """A repository in Amazon's registry, which deletes through an API of its own.

    Args:
        reference: Where it is.
        login: Login to the registry.
        aws: Client of AWS.
    """

    def __init__(self, reference: Reference, login: Login, aws: Aws) -> None:
        super().__init__(reference, login)
        self._aws = aws
        self._reference = reference

    def drop(self, digest: str) -> bool:
        """Delete a manifest with all its tags.

        Returns:
            Whether it is gone.
        """
        answer = self._aws.call_now(
            "ecr",
            "batch_delete_image",
            registryId=_account(self._reference),
            repositoryName=self._reference.repository,
            imageIds=[{"imageDigest": digest}],
        )
        failures = (answer or {}).get("failures", [])
        return all(failure.get("failureCode") == "ImageNotFound" for failure in failures)


def _account(where: Reference) -> str:
    return where.host.partition(".")[0]
