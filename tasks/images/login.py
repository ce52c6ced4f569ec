"""Who we are to a registry, from a Prefect block."""

from __future__ import annotations

from pydantic import SecretStr

from tasks.core.errors import ConfigurationError
from tasks.images.registry import Login
from tasks.runs.secrets import read_secret


async def load_login(block: str) -> Login | None:
    """Read the credentials of a registry.

    Args:
        block: Name of a Secret block that holds `username` and `password`; empty for none.

    Returns:
        The login.

    Raises:
        ConfigurationError: There is no such block, or it holds something else.
        TransientError: The Prefect server does not answer.
    """
    if not block:
        return None
    found = await read_secret(block)
    try:
        return Login(found["username"], SecretStr(found["password"]))
    except (KeyError, TypeError):
        raise ConfigurationError(
            f"block secret/{block} does not hold the username and password of a registry",
            state="nothing was pushed",
            next_step=f'create a Secret block {block} with {{"username": ..., "password": ...}}'
            " in the Prefect UI",
        ) from None  # the error may quote the secret
