"""Reading what Prefect's Secret blocks hold."""

from __future__ import annotations

from typing import Any

import httpx
from prefect.blocks.system import Secret

from tasks.core.errors import TransientError


async def read_secret(block: str) -> Any:
    """Read a Secret block.

    Args:
        block: Its name.

    Returns:
        What it holds; None if there is no such block.

    Raises:
        TransientError: The Prefect server does not answer.
    """
    try:
        return (await Secret.aload(block)).get()  # type: ignore[attr-defined]
    except ValueError:
        return None
    except httpx.HTTPError as error:
        raise TransientError(
            f"the Prefect server does not give block secret/{block}: {error!r}",
            state="nothing was changed",
            next_step="check PREFECT_API_URL and the server, then run the flow again",
        ) from error
