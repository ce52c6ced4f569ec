"""Who we are to a registry, from a Prefect block."""

from __future__ import annotations

import httpx
from prefect.blocks.system import Secret
from pydantic import SecretStr

from tasks.errors import ConfigurationError, TransientError
from tasks.images.registry import Login


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
    try:
        found = (await Secret.aload(block)).get()  # type: ignore[attr-defined]
        return Login(found["username"], SecretStr(found["password"]))
    except (ValueError, KeyError, TypeError):
        raise ConfigurationError(
            f"block secret/{block} does not hold the username and password of a registry",
            state="nothing was pushed",
            next_step=f'create a Secret block {block} with {{"username": ..., "password": ...}}'
            " in the Prefect UI",
        ) from None  # the error may quote the secret
    except httpx.HTTPError as error:
        raise TransientError(
            f"the Prefect server does not give block secret/{block}: {error!r}",
            state="nothing was pushed",
            next_step="check PREFECT_API_URL and the server, then run the flow again",
        ) from error
