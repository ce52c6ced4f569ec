"""Run the Prefect server of the local stack: `python -m deployments.local.prefect_server`.

It waits for its database, which starts together with it, where Prefect's own command would fail.
"""

from __future__ import annotations

import argparse
import asyncio

import asyncpg
import uvicorn
from prefect.server.api.server import create_app
from prefect.settings import get_current_settings

from deployments.local.browser_guard import guard

# A first start makes the database, one after a crash replays its log.
_DATABASE_SECONDS = 60.0


async def wait_for_database(url: str) -> None:
    """Wait until PostgreSQL accepts connections.

    Args:
        url: URL of the database, in the form that Prefect takes: `postgresql+asyncpg://…`.

    Raises:
        TimeoutError: It does not within a minute.
    """
    async with asyncio.timeout(_DATABASE_SECONDS):
        while True:
            try:
                connection = await asyncpg.connect(url.replace("+asyncpg", "", 1))
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
    settings = get_current_settings().server
    database, login = settings.database.connection_url, settings.api.auth_string
    assert database is not None
    assert login is not None
    asyncio.run(wait_for_database(database.get_secret_value()))
    uvicorn.run(
        guard(create_app(final=True), port=arguments.port, login=login.get_secret_value()),
        host=arguments.host,
        port=arguments.port,
        log_level="warning",
        timeout_keep_alive=5,
    )


if __name__ == "__main__":
    main()
