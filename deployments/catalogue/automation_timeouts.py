"""Time-outs of the automations, see `automations.py`."""

from __future__ import annotations

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from tasks.core.errors import ConfigurationError

# Seconds between two heartbeats of a flow run, see `prefect.yaml`; the least that Prefect allows.
HEARTBEAT_SECONDS = 30
_PREFIX = "SLIPWAY_"


class Timeouts(BaseSettings):
    """Time-outs, from `SLIPWAY_*` environment variables of `slipway apply`.

    Attributes:
        lost_seconds: Time without a heartbeat after which a run is lost. By default three
            heartbeats, so that a server that was away for a minute takes no run for lost.
        start_minutes: Time after which a run that a worker has taken and not started is lost.
        late_hours: Time after which a run that no worker has started is cancelled.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="ignore")

    lost_seconds: float = Field(3.0 * HEARTBEAT_SECONDS, gt=HEARTBEAT_SECONDS)
    start_minutes: float = Field(10.0, gt=0)
    late_hours: float = Field(6.0, gt=0)

    @classmethod
    def from_environment(cls) -> Timeouts:
        """Return the time-outs of the environment.

        Raises:
            ConfigurationError: The value of a variable is invalid.
        """
        try:
            return cls()  # type: ignore[call-arg]  # from the environment
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigurationError(
                f"{_PREFIX}{str(first['loc'][0]).upper()}: {first['msg']}",
                state="nothing was changed",
                next_step="correct the variable, in the shell or in .env, then: slipway apply",
            ) from None


def variables() -> frozenset[str]:
    """Return the names of the variables."""
    return frozenset(_PREFIX + name.upper() for name in Timeouts.model_fields)
