"""The spools of an environment on the worker's own host: one for each version that keeps a log."""

from __future__ import annotations

from pathlib import Path

from tasks.bucket import held_spools
from tasks.core.settings import Settings
from tasks.platforms.base.prediction_log import find_spool, make_spool
from tasks.platforms.base.settings import HostEnvironment
from tasks.platforms.host.host_release import HostRelease, S


class Spools:
    """The spools of one environment."""

    def __init__(self, environment: HostEnvironment) -> None:
        self._environment = environment

    def make(self, released: HostRelease[S]) -> Path | None:
        """Make the folder for the records of a release's servers; None without a log.

        It is held until the release is confirmed if these are on trial.
        """
        if (spool := self._find(released)) is None:
            return None
        if released.on_trial:
            held_spools.hold_new(spool)
        return make_spool(spool)

    def make_for(self, model: str, version: str) -> Path:
        """Make the folder for the records of a version of a model."""
        return make_spool(find_spool(Settings().spool, model, self._environment.name, version))

    def let_go(self, released: HostRelease[S]) -> None:
        """Let the shipper have the records of a release: it may get traffic now."""
        if spool := self._find(released):
            held_spools.let_go(spool)

    def remove_held(self) -> None:
        """Remove what servers have written that were refused; they must have ended."""
        held_spools.remove_held(Settings().spool, self._environment.name)

    def _find(self, released: HostRelease[S]) -> Path | None:
        if not self._environment.log:
            return None
        model = released.staged.package.model
        return find_spool(Settings().spool, model, self._environment.name, released.version)
