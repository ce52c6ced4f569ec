"""Dask clusters: their addresses, and the errors of the program that talks to one."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from tasks.core.errors import ConfigurationError, SlipwayError, TerminalError, TransientError
from tasks.core.secret_blocks import variable
from tasks.runs.secrets import find_secret
from tasks.scoring.cluster_names import VERSIONS
from tasks.scoring.places import STATE


async def find_cluster(name: str) -> str:
    """Find the address of a cluster's scheduler, in its variable or its block.

    Raises:
        ConfigurationError: There is none, or this worker lacks Dask.
    """
    block = f"slipway-dask-{name}"
    if not (address := await find_secret(block)):
        raise ConfigurationError(
            f"cluster {name}: there is neither a Secret block {block} nor a variable"
            f" {variable(block)}",
            state=STATE,
            next_step="make the block, with the address of the scheduler, such as"
            " tls://scheduler:8786",
        )
    if not find_spec("distributed"):
        raise ConfigurationError(
            f"cluster {name}: this worker has no package `distributed`",
            state=STATE,
            next_step="run `uv sync --inexact --extra dask` in the worker's checkout",
        )
    return address


def explain_cluster(output: Mapping[str, Any]) -> SlipwayError:
    """Explain the end of the program that talks to a cluster."""
    if output["kind"] == VERSIONS:
        return TerminalError(
            f"the Dask cluster runs other versions than this worker: {output['problem']}",
            state="nothing was published",
            next_step="install the same versions on the scheduler, its workers and this worker",
        )
    return TransientError(
        f"the Dask cluster failed: {output['problem']}",
        state="nothing was published; what is finished is kept",
        next_step="check the scheduler and its workers, which run in a checkout of this version;"
        " then run the flow again with the same parameters",
    )
