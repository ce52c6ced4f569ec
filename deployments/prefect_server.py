"""Run the Prefect server on SQLite without losing writes: `python -m deployments.prefect_server`.

Prefect begins its transactions DEFERRED: one that reads and then writes fails at once, without
waiting, if another wrote in between ("database is locked"). Two subflows one after the other are
enough; the client then waits 2 s, and events are lost. Begun IMMEDIATE, as Prefect's own comment
on SQLite advises, transactions queue instead.
"""

from __future__ import annotations

import argparse
from contextlib import AbstractAsyncContextManager

import uvicorn
from prefect.server.api.server import create_app
from prefect.server.database.configurations import AioSqliteConfiguration
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction

_begin = AioSqliteConfiguration.begin_transaction


def _begin_immediate(
    self: AioSqliteConfiguration, session: AsyncSession, with_for_update: bool = True
) -> AbstractAsyncContextManager[AsyncSessionTransaction]:
    return _begin(self, session, with_for_update=True)


def main() -> None:
    """Serve API, UI and background services in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    AioSqliteConfiguration.begin_transaction = _begin_immediate  # type: ignore[method-assign, assignment]
    uvicorn.run(
        create_app(final=True),
        host=arguments.host,
        port=arguments.port,
        log_level="warning",
        timeout_keep_alive=5,
    )


if __name__ == "__main__":
    main()
