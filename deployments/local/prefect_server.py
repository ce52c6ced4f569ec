"""Run the Prefect server of the local stack: `python -m deployments.local.prefect_server`.

On SQLite without losing writes: Prefect begins its transactions DEFERRED, and one that reads and
then writes fails at once, without waiting, if another wrote in between ("database is locked"). Two
subflows one after the other are enough; the client then waits 2 s, and events are lost. Begun
IMMEDIATE, as Prefect's own comment on SQLite advises, transactions queue instead.

On PostgreSQL it waits for the database, which starts together with it, instead of failing.
"""

from __future__ import annotations

import argparse
import asyncio
from contextlib import AbstractAsyncContextManager

import asyncpg
import uvicorn
from prefect.server.api.server import create_app
from prefect.server.database.configurations import AioSqliteConfiguration
from prefect.settings import get_current_settings
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction

_DATABASE_SECONDS = 60.0
_begin = AioSqliteConfiguration.begin_transaction


def _begin_immediate(
    self: AioSqliteConfiguration, session: AsyncSession, with_for_update: bool = True
) -> AbstractAsyncContextManager[AsyncSessionTransaction]:
    return _begin(self, session, with_for_update=True)


async def _wait_for(database_url: str) -> None:
    """Wait until PostgreSQL lets us in; a first start and one after a crash take it a while."""
    url = make_url(database_url).set(drivername="postgresql")
    async with asyncio.timeout(_DATABASE_SECONDS):
        while True:
            try:
                connection = await asyncpg.connect(url.render_as_string(hide_password=False))
            except (OSError, asyncpg.CannotConnectNowError):
                await asyncio.sleep(0.1)
            else:
                await connection.close()
                return


def main() -> None:
    """Serve API, UI and background services in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    database = get_current_settings().server.database.connection_url
    if database and database.get_secret_value().startswith("postgresql"):
        asyncio.run(_wait_for(database.get_secret_value()))
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
