"""How long the Prefect server waits before it acts by itself, see `automations.py`."""

from __future__ import annotations

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from tasks.core.errors import ConfigurationError

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

    lost_seconds: float = Field(3.0 * HEARTBEAT_SECONDS, gt=HEARTBEAT_SECONDS)
    start_minutes: float = Field(10.0, gt=0)
    late_hours: float = Field(6.0, gt=0)

    @classmethod
    def from_environment(cls) -> Patience:
        """What the environment says.

        Raises:
            ConfigurationError: A variable has a value that makes no sense.
        """
        try:
            return cls()  # type: ignore[call-arg]  # from the environment
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigurationError(
                f"{_PREFIX}{str(first['loc'][0]).upper()}: {first['msg']}",
                state="nothing was changed",
                next_step="correct that variable, here or in .env, and apply again",
            ) from None


def variables() -> frozenset[str]:
    """The names of the environment variables that say it."""
    return frozenset(_PREFIX + name.upper() for name in Patience.model_fields)
