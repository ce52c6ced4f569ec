"""The credentials of a registry and of AWS, from blocks of a real Prefect server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prefect.blocks.system import Secret
from prefect_aws import AwsCredentials

from deployments.local.stack import Stack
from tasks.core.errors import ConfigurationError, SlipwayError
from tasks.images.login import load_login
from tasks.platforms.sagemaker.aws import open_aws
from tests.stack_access import prefect_of


@pytest.fixture
def _on_the_stack(stack: Stack) -> Iterator[None]:
    with prefect_of(stack):
        yield


@pytest.mark.usefixtures("_on_the_stack")
async def test_a_login_comes_from_a_block_and_is_not_told() -> None:
    await Secret(value={"username": "us", "password": "hidden"}).save("registry", overwrite=True)
    login = await load_login("registry")
    assert login
    assert (login.username, login.password.get_secret_value()) == ("us", "hidden")
    assert "hidden" not in repr(login)


async def test_without_a_block_we_are_nobody_in_particular() -> None:
    assert await load_login("") is None


@pytest.mark.usefixtures("_on_the_stack")
async def test_another_block_is_refused_without_a_word_of_what_is_in_it() -> None:
    await Secret(value="hidden").save("no-registry", overwrite=True)
    for name in ("no-registry", "not-there"):
        with pytest.raises(
            ConfigurationError, match=f"block secret/{name} has no username"
        ) as raised:
            await load_login(name)
        assert "hidden" not in str(raised.value)
        assert raised.value.__cause__ is None


@pytest.mark.usefixtures("_on_the_stack")
async def test_aws_opens_with_a_block_and_does_not_show_its_secret() -> None:
    # The stack's own block is of another kind of server: it does not know STS.
    aws = await open_aws("slipway-read-write", "us-east-1")
    with pytest.raises(SlipwayError, match=r"\(sts get_caller_identity\)") as raised:
        await aws.call("sts", "get_caller_identity")
    block = await AwsCredentials.aload("slipway-read-write")
    assert block.aws_secret_access_key.get_secret_value() not in str(raised.value)
    with pytest.raises(ConfigurationError, match="block aws-credentials/not-there does not exist"):
        await open_aws("not-there", "us-east-1")
