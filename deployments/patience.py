"""How long the Prefect server waits before it acts by itself; see `deployments/automations.py`."""

from __future__ import annotations

from pydantic_settings import BaseSettings, SettingsConfigDict

# How often a flow run says that it lives, see `prefect.yaml`; Prefect allows no less.
HEARTBEAT_SECONDS = 30
_PREFIX = "SLIPWAY_"


class Patience(BaseSettings):
    """How long to wait, from `SLIPWAY_*` environment variables of whoever applies.

    Attributes:
        lost_seconds: After so long without a heartbeat, a run counts as lost. By default three
            heartbeats, so that a server that was away for a minute takes no run for lost.
        start_minutes: A run that a worker has taken and not started after so long counts as lost.
        late_hours: A run that no worker has started after so long is cancelled.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="ignore")

    lost_seconds: float = 3.0 * HEARTBEAT_SECONDS
    start_minutes: float = 10.0
    late_hours: float = 6.0


def variables() -> frozenset[str]:
    """The names of the environment variables that say it."""
    return frozenset(_PREFIX + name.upper() for name in Patience.model_fields)
