"""Start the service: `python -m serving --bundle DIR --host 127.0.0.1 --port 8080`."""

import argparse
import gc
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from serving import sagemaker
from serving.bundle import BundleError, read_bundle
from serving.settings import FAILED, Limits, LogSettings, SettingError, Settings

log = logging.getLogger("serving")

MISUSED = 2  # exit status: a setting cannot be used


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve a bundle until SIGTERM; return the exit status."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    signal.signal(signal.SIGTERM, _stop)
    try:
        settings = _read_settings(arguments)
    except SettingError as error:
        print(f"error: {error}", file=sys.stderr)
        return MISUSED
    # One row is too little for several threads; set before NumPy is imported.
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    # Until the model is loaded: there is little garbage yet, and a tenth of a start goes into it.
    gc.disable()
    sys.setswitchinterval(0.001)  # a large request yields to the other clients sooner
    try:
        return _serve(settings)
    except BundleError as error:
        log.error("cannot serve %s: %s", settings.bundle, error)
        return FAILED


def _serve(settings: Settings) -> int:
    # Only now, as this takes most of a second: the first process of a container ignores SIGTERM
    # until it handles it, and who stops it would wait for the end of its grace.
    if settings.limits.workers > 1:
        from serving import forking

        return forking.serve(settings)
    from serving.server import Server

    server = Server(settings, read_bundle(settings.bundle))
    server.run()
    return server.status


def _read_settings(arguments: Sequence[str] | None) -> Settings:
    environment = os.environ
    parser = argparse.ArgumentParser(prog="serving", description="Serve a model's bundle.")
    parser.add_argument(
        "--bundle", type=Path, default=environment.get("SLIPWAY_BUNDLE"),
        help="folder with the model's files (SLIPWAY_BUNDLE)",
    )  # fmt: skip
    parser.add_argument(
        "--host", default=environment.get("SLIPWAY_HOST", "127.0.0.1"),
        help="address to listen on (SLIPWAY_HOST)",
    )  # fmt: skip
    parser.add_argument(
        "--port", type=int,
        default=environment.get("SLIPWAY_PORT") or environment.get("PORT") or "8080",
        help="port to listen on (SLIPWAY_PORT, PORT)",
    )  # fmt: skip
    parser.add_argument(
        "--listen-when-ready", action="store_true",
        default=environment.get("SLIPWAY_LISTEN_WHEN_READY") == "1",
        help="listen only once the model is loaded and proven (SLIPWAY_LISTEN_WHEN_READY=1)",
    )  # fmt: skip
    parser.add_argument("command", nargs="?", choices=[sagemaker.ARGUMENT], help=argparse.SUPPRESS)
    parsed = parser.parse_args(arguments)
    if parsed.bundle is None:
        raise SettingError("no bundle to serve: set --bundle or SLIPWAY_BUNDLE")
    limits = Limits.from_environment(environment)
    return Settings(
        Path(parsed.bundle),
        parsed.host,
        parsed.port,
        parsed.listen_when_ready,
        limits,
        LogSettings.from_environment(environment),
    )


def _stop(_: int, __: FrameType | None) -> None:
    """Exit cleanly before the server runs, and after it when it hands the signal back."""
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
