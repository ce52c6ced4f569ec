"""Secrets: values of variables and of Prefect's Secret blocks."""

from __future__ import annotations

import os
from typing import Any

import httpx
from prefect.blocks.system import Secret

from tasks.core.errors import TransientError
from tasks.core.secret_blocks import variable


async def read_secret(block: str) -> Any:
    """Read the value of a Secret block; return None if the block does not exist.

    Raises:
        TransientError: The Prefect server does not answer.
    """
    try:
        return (await Secret.aload(block)).get()  # type: ignore[attr-defined]
    except ValueError:
        return None
    except httpx.HTTPError as error:
        raise TransientError(
            f"cannot read block secret/{block} from the Prefect server: {error!r}",
            state="nothing was changed",
            next_step="check PREFECT_API_URL and the server, then run the flow again",
        ) from error


async def find_secret(block: str) -> str:
    """Return the value of a block's variable, or else of the block; empty if there is neither.

    Raises:
        TransientError: The Prefect server does not answer.
    """
    return str(os.environ.get(variable(block)) or await read_secret(block) or "")
