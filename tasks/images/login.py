"""Credentials for a registry, from a Prefect block."""

from __future__ import annotations

from pydantic import SecretStr

from tasks.core.errors import ConfigurationError
from tasks.images.registry import Login
from tasks.runs.secrets import read_secret


async def load_login(block: str) -> Login | None:
    """Read the credentials of a registry.

    Args:
        block: Name of a Secret block with `username` and `password`; empty for no credentials.

    Raises:
        ConfigurationError: The block does not exist, or has other content.
        TransientError: The Prefect server does not answer.
    """
    if not block:
        return None
    secret = await read_secret(block)
    try:
        return Login(secret["username"], SecretStr(secret["password"]))
    except (KeyError, TypeError):
        raise ConfigurationError(
            f"block secret/{block} has no username and password of a registry",
            state="nothing was pushed",
            next_step=f'create a Secret block {block} with {{"username": ..., "password": ...}}'
            " in the Prefect UI",
        ) from None  # the error may quote the secret
