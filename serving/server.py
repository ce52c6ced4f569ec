"""The HTTP server of one process: uvicorn with the application, its connections and its drain."""

import logging
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette

from serving.app import create_app
from serving.bundle import Bundle
from serving.draining import Draining
from serving.settings import FAILED, Settings
from serving.shared_metrics import SharedMetrics

log = logging.getLogger("serving")


class Server:
    """One process's server of a model."""

    def __init__(
        self, settings: Settings, bundle: Bundle, shared: SharedMetrics | None = None
    ) -> None:
        """Prepare everything that needs no model, and drain on a signal from now on.

        Args:
            settings: of this process.
            bundle: from `read_bundle`.
            shared: the metrics of all processes of the server; None if this is the only one.

        Raises:
            BundleError: the model's interface cannot be served.
        """
        self._bundle = bundle
        self._failures: list[str] = []
        self.app: Starlette = create_app(
            bundle,
            settings.limits,
            self._fail,
            listen_when_ready=settings.listen_when_ready,
            log_settings=settings.log,
            shared=shared,
        )
        draining = Draining(self.app)
        draining.start_on_signal()
        self._server = uvicorn.Server(
            make_config(settings, draining, self.app.state.connections.make_protocol)
        )
        self.run: Callable[..., None] = self._server.run

    @property
    def status(self) -> int:
        """The exit status, once the server has run."""
        return FAILED if self._failures or not self._server.started else 0

    def load(self) -> bool:
        """Load the model now, and say whether it can be served."""
        self.app.state.service.load()
        return not self._failures

    def _fail(self, reason: str) -> None:
        log.error("cannot serve %s: %s", self._bundle.folder, reason)
        self._failures.append(reason)
        self._server.should_exit = True


def make_config(
    settings: Settings, app: object = None, protocol: object = "auto"
) -> uvicorn.Config:
    """Make uvicorn's settings."""
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=protocol,  # type: ignore[arg-type]
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_config=None,
        server_header=False,
        ws="none",
        timeout_keep_alive=settings.limits.keep_alive_seconds,
        timeout_graceful_shutdown=settings.limits.shutdown_seconds,
    )
