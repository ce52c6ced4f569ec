"""Register work pool, blocks and deployments of a local stack: `python -m deployments.register`.

For a server of your own, `python -m deployments.blocks` and `prefect deploy --all` do the same.

Reads the server from `PREFECT_API_URL`, the bucket from `SLIPWAY_S3_*` (see
`deployments.blocks.ObjectStorage`), and `prefect.yaml` in the current folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import runpy
import sys
from pathlib import Path

from deployments import blocks, catalogue
from deployments.api import PrefectAPI
from deployments.blocks import ObjectStorage
from deployments.prefect_programs import WORK_POOL
from tasks.errors import TerminalError


def main() -> None:
    """Register everything, then note on the server what it was made from."""
    checkout = Path.cwd()
    storage = ObjectStorage.from_environment()
    asyncio.run(_prepare(storage))
    _deploy()
    with PrefectAPI(os.environ["PREFECT_API_URL"]) as api:
        catalogue.mark_registered(api, checkout, storage)


async def _prepare(storage: ObjectStorage) -> None:
    from prefect import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.workers.process import ProcessWorker

    async with get_client() as client:
        pool = WorkPoolCreate(
            name=WORK_POOL,
            type=ProcessWorker.type,
            base_job_template=ProcessWorker.get_default_base_job_template(),
        )
        with contextlib.suppress(ObjectAlreadyExists):
            await client.create_work_pool(pool)
    await blocks.register(storage)


def _deploy() -> None:
    """Run `prefect deploy --all` in this process: a second import of Prefect takes seconds."""
    sys.argv = ["prefect", "--no-prompt", "deploy", "--all"]
    try:
        runpy.run_module("prefect", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise TerminalError(
                "prefect deploy --all failed",
                state="some deployments may be registered, others not",
                next_step="mend prefect.yaml or the flow that it complains about",
            ) from end


if __name__ == "__main__":
    main()
