"""The checkout's local stack and the Prefect server that a command talks to."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.core.errors import ConfigurationError

if TYPE_CHECKING:
    from deployments.local.stack import Stack
    from deployments.prefect_api.client import PrefectAPI

_SERVER_VARIABLES = ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING")


@dataclass(frozen=True)
class Place:
    """The files that decide which server is used.

    Attributes:
        home: Folder of the local stack.
        env_file: File of variables; those that are set already win.
    """

    home: Path
    env_file: Path

    @classmethod
    def of_checkout(cls, home: Path | None = None, env_file: Path | None = None) -> Place:
        """Return the place with these files; by default those of the checkout."""
        from tasks.core.settings import CHECKOUT

        return cls(home or CHECKOUT / ".slipway", env_file or CHECKOUT / ".env")

    def stack(self) -> Stack:
        """Return the local stack, up or not."""
        from deployments.local.stack import Stack

        return Stack(self.home)

    def choose_server(self, *, for_changes: bool = False) -> Stack | None:
        """Set the variables of the server to use: `PREFECT_API_URL`, `.env`, or the local stack.

        A Prefect profile comes last: it is one for the whole machine, the stack is this checkout's.

        Args:
            for_changes: Refuse a local stack that is down: by now another checkout's stack may
                listen on its ports.

        Returns:
            The local stack if it was chosen, else None.

        Raises:
            ConfigurationError: The local stack was chosen, and is down.
        """
        from dotenv import load_dotenv

        from deployments.local.stack import UNSUPERVISED

        load_dotenv(self.env_file)
        if os.environ.get("PREFECT_API_URL"):
            return None
        stack = self.stack()
        if not stack.ports:
            return None
        if for_changes and not stack.supervisor.alive():
            runs_on = UNSUPERVISED in stack.status().values()
            problem = "has lost its supervisord" if runs_on else "is down"
            raise ConfigurationError(
                f"the local stack in {self.home} {problem}",
                state="nothing was changed",
                next_step="slipway up, or for a server of your own: export"
                " PREFECT_API_URL=https://<your server>/api",
            )
        os.environ.update({**stack.environment(), **stack.storage.to_environment()})
        return stack

    def open_api(self) -> PrefectAPI:
        """Return a client of the chosen server that needs no import of Prefect.

        Raises:
            ConfigurationError: No server is named anywhere, or the local stack is down.
        """
        from deployments.prefect_api.client import PrefectAPI

        self.choose_server(for_changes=True)
        return PrefectAPI.from_environment({**profile_variables(os.environ), **os.environ})


def profile_variables(environment: dict[str, str] | os._Environ[str]) -> dict[str, str]:
    """Return what the active Prefect profile says of its server; nothing if there is none.

    Prefect reads the same file, but takes seconds to import.

    Args:
        environment: Variables that say where the profiles are, and which is active.
    """
    folder = Path(environment.get("PREFECT_HOME") or Path.home() / ".prefect")
    path = Path(environment.get("PREFECT_PROFILES_PATH") or folder / "profiles.toml")
    try:
        content = tomllib.loads(path.expanduser().read_text())
    except (OSError, tomllib.TOMLDecodeError):
        return {}
    active = environment.get("PREFECT_PROFILE") or content.get("active", "")
    profile = content.get("profiles", {}).get(active, {})
    return {name: str(profile[name]) for name in _SERVER_VARIABLES if name in profile}


def list_environments() -> list[str]:
    """Return the names of all environments."""
    from tasks.platforms.catalogue import environment_names

    return environment_names()


def list_targets() -> list[str]:
    """Return the names of all platforms."""
    from tasks.platforms.catalogue import PLATFORMS

    return sorted(PLATFORMS)
