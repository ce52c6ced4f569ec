"""Settings of the server: the bundle, the address, and limits of the work it accepts."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

FAILED = 3  # exit status: the bundle cannot be served
PREFIX = "SLIPWAY_SERVING_"
# Not below the prefix: an older server, which a rollback starts, refuses names there.
LOG, LOG_FOLDER, LOG_KEY = "SLIPWAY_LOG", "SLIPWAY_LOG_FOLDER", "SLIPWAY_LOG_KEY"
LATER_LIMITS = {"batch_rows": "SLIPWAY_BATCH_ROWS", "workers": "SLIPWAY_WORKERS"}


class SettingError(ValueError):
    """A setting with an impossible value; the message names it."""


@dataclass(frozen=True)
class Limits:
    """Limits of the work that the server accepts, each from the variable `name_limit(name)`."""

    max_rows: int = 10_000
    max_body_bytes: int = 0  # 0: as much as max_rows rows of this model can need, within bounds
    header_seconds: float = 10.0  # to receive one request's header, from its first byte
    body_seconds: float = 10.0  # to receive one request's body
    threads: int = 2  # large requests are predicted on these
    queue: int = 16  # large requests that may wait for a thread; one more is answered 503
    inline_rows: int = 32  # up to this many rows are answered without a change of thread …
    inline_milliseconds: float = 5.0  # … if this model answers one within this time
    batch_rows: int = 64  # of concurrent small requests, predicted together; 1: each alone
    keep_alive_seconds: int = 120  # without a request, also the first; longer than a proxy's
    shutdown_seconds: int = 30  # for requests in flight after SIGTERM
    connections: int = 1_000  # one more closes the one that has been idle longest
    report_url: str = ""  # where people with access read the model card; the page links to it
    workers: int = 1  # processes that serve the model, and share it in memory
    cors_origins: str = ""  # of sites whose pages may ask, with spaces between them; `*` for all

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Limits":
        """Read the limits from environment variables.

        Args:
            environment: the variables; unknown names under the prefix are refused, because a
                misspelt limit would silently not hold.

        Returns:
            The limits, defaults where nothing is set.

        Raises:
            SettingError: a value is not a positive number or no origin, or a name is unknown.
        """
        allowed = {name_limit(field.name): field for field in fields(cls)}
        unknown = sorted(n for n in environment if n.startswith(PREFIX) and n not in allowed)
        if unknown:
            raise SettingError(f"unknown setting {unknown[0]}; known are {', '.join(allowed)}")
        values: dict[str, float | str] = {}
        for name, field in allowed.items():
            text = environment.get(name, "").strip()
            if not text:
                continue
            if field.type is str:
                values[field.name] = text
                continue
            try:
                value = float(text) if field.type is float else int(text)
            except ValueError:
                raise SettingError(f"{name} must be a number, not {text!r}") from None
            if not 0 <= value < float("inf") or (value == 0 and field.name not in MAY_BE_ZERO):
                raise SettingError(f"{name} must be a positive number, not {text!r}")
            values[field.name] = value
        limits = cls(**values)  # type: ignore[arg-type]  # int and float by the field's own type
        for origin in limits.origins:
            if origin != "*" and not ORIGIN.fullmatch(origin):
                name = f"{PREFIX}CORS_ORIGINS"
                raise SettingError(
                    f"{name} must be origins such as https://a.example, not {origin!r}"
                )
        if limits.report_url and not PAGE.fullmatch(limits.report_url):
            name = f"{PREFIX}REPORT_URL"
            raise SettingError(
                f"{name} must be a page such as https://a.example/b, not {limits.report_url!r}"
            )
        return limits

    def split(self) -> "Limits":
        """Return the limits of one worker: its part of what is for the whole server."""
        shared = ("threads", "queue", "connections")
        parts = {name: -(-getattr(self, name) // self.workers) for name in shared}
        return replace(self, **parts)

    @property
    def origins(self) -> list[str]:
        """Sites whose pages may ask the model; `*` for all."""
        return self.cors_origins.split()


def name_limit(limit: str) -> str:
    """Return the name of the variable that sets a limit."""
    return LATER_LIMITS.get(limit, PREFIX + limit.upper())


@dataclass(frozen=True)
class LogSettings:
    """Settings of the prediction log, as the deployer writes them."""

    share: float = 1.0  # of the requests
    seconds: float = 60.0  # after which a file of the spool is complete
    spool_bytes: int = 256 << 20  # of all files that wait
    feedback: bool = False  # whether `POST /feedback` is served
    key: bytes | None = None  # of the hash of private values; without it they are left out
    folder: Path | None = None  # of the spool; None for standard output
    lock: int | None = None  # of standard output: an open file, shared with other processes
    private: frozenset[str] = frozenset()  # columns, beside those that the model itself names

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "LogSettings | None":
        """Read the settings from environment variables.

        Args:
            environment: the variables. `SLIPWAY_LOG` is JSON, `{"share": 1.0}`; a key of a newer
                deployer is left alone.

        Returns:
            The settings; None where there is to be no log.

        Raises:
            SettingError: a value cannot be used.
        """
        text = environment.get(LOG)
        if not text:
            return None
        try:
            values = json.loads(text)
            settings = cls(
                share=float(values.get("share", cls.share)),
                seconds=float(values.get("seconds", cls.seconds)),
                spool_bytes=int(values.get("spool_mb", cls.spool_bytes >> 20)) << 20,
                feedback=values.get("feedback") is True,
                key=_read_key(environment) if values.get("private") == "hash" else None,
                folder=Path(folder) if (folder := environment.get(LOG_FOLDER)) else None,
                private=frozenset(values.get("private_columns", ())),
            )
        except (ValueError, TypeError, AttributeError) as error:
            raise SettingError(f"{LOG} cannot be used: {error}") from None
        if not 0 < settings.share <= 1 or settings.seconds <= 0 or settings.spool_bytes <= 0:
            raise SettingError(f"{LOG} has an impossible number: {text}")
        return settings


def _read_key(environment: Mapping[str, str]) -> bytes:
    key = environment.get(LOG_KEY, "")
    if not key:
        raise ValueError(f'private is "hash", and {LOG_KEY} is not set')
    return key.encode()


PAGE = re.compile(r"https?://[\w.-]+(:\d+)?(/[^\s\"<>]*)?")
ORIGIN = re.compile(r"https?://[\w.-]+(:\d+)?")
MAY_BE_ZERO = {"max_body_bytes", "queue", "inline_rows", "inline_milliseconds"}


@dataclass(frozen=True)
class Settings:
    """All settings of the server."""

    bundle: Path
    host: str
    port: int
    listen_when_ready: bool  # for platforms that route to whatever listens
    limits: Limits
    log: LogSettings | None  # None: no prediction log

    def split(self, lock: int) -> "Settings":
        """Return the settings of one worker.

        Args:
            lock: an open file that all workers share.
        """
        log = None if self.log is None else replace(self.log, lock=lock)
        return replace(self, limits=self.limits.split(), log=log)
