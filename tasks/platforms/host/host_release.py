"""A release that was started on the worker's own host."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeVar

from tasks.monitoring.records import SHADOW
from tasks.platforms.base.prediction_log import LogSettings
from tasks.platforms.base.target import Released, Staged
from tasks.platforms.host.route import Route

S = TypeVar("S", bound=Staged)


@dataclass(frozen=True)
class HostRelease(Released[S]):
    """A release that was started on the worker's own host.

    Attributes:
        route: Its private route.
        old: The route that had the traffic before, None if there was none.
        private: Columns that its log leaves out beside its own private ones.
        on_trial: True if it was started to be proven: it may still be refused.
    """

    route: Route
    old: Route | None
    private: Collection[str] = ()
    on_trial: bool = False

    @property
    def is_shadow(self) -> bool:
        """True if it only gets mirrored requests: the live release comes first."""
        return self.version == SHADOW

    def server_variables(self, log: LogSettings | None) -> dict[str, str]:
        """Return the variables of its servers beside those of the environment.

        Args:
            log: The prediction log of the environment.
        """
        variables = self.route.server_variables
        if self.is_shadow and log:
            return variables | log.make_shadow_variables(self.private)
        return variables
