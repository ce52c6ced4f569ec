"""Settings that all environments share, and those of hosts, images and clouds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from tasks.monitoring.settings import Monitor
from tasks.platforms.base.duration import Duration, seconds_of
from tasks.platforms.base.policy import Policy
from tasks.platforms.base.prediction_log import OptionalLog
from tasks.platforms.base.shadow import OptionalShadow
from tasks.platforms.base.variables import WORKERS, Table, VariableReader

# How long these may take at most: the tasks of a rollout, and its flow, are given more.
READY_SECONDS = 600.0
CANARY_SECONDS = 3600.0
SOAK_SECONDS = 1800.0
WATCH_SECONDS = 6 * 3600.0
Percent = Annotated[int, Field(ge=1, le=99)]
Platform = Literal["linux/amd64", "linux/arm64"]


def _split(value: object) -> object:
    """Split a list that a variable holds, `10,50`."""
    return [part for part in value.split(",") if part] if isinstance(value, str) else value


LISTED = BeforeValidator(_split)


class Environment(Policy):
    """An environment, whatever its target.

    Attributes:
        name: File name without `.toml`.
        target: Name of its platform.
        keep: Number of releases kept for rollback.
        ready_seconds: Longest time until a started model is ready.
        soak_seconds: Time for which a new release must answer correctly before it is settled.
        approval_hours: Time for the answer; without one the run fails, and nothing is released.
        workers: Number of processes of a model server, which share the model in memory.
        variables: Variables of the model server, with their values.
        secrets: Secret variables of the model server, each with the Secret block of its value.
        monitor: Rules of the alarm, such as `{least_rows = 100}`: when live requests differ from
            the training data.
        log: The prediction log, such as `{share = 1.0}`; without it, no request is kept.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    target: str
    keep: int = Field(3, ge=1)
    ready_seconds: float = Field(60.0, gt=0, le=READY_SECONDS)
    soak_seconds: float = Field(2.0, ge=0, le=SOAK_SECONDS)
    approval_hours: float = Field(24.0, gt=0)
    workers: int = Field(1, ge=1, le=64)
    variables: Table = Field(default_factory=dict)
    secrets: Table = Field(default_factory=dict)
    log: OptionalLog = None
    monitor: Monitor

    @model_validator(mode="after")
    def _name_each_variable_once(self) -> Self:
        if both := sorted(self.variables.keys() & self.secrets.keys()):
            raise ValueError(f"secrets: {both[0]} is in `variables` too")
        return self

    def variable_reader(self) -> VariableReader:
        """Make the reader of the environment's variables."""
        plain, secret = dict(self.variables), dict(self.secrets)
        if self.workers > 1:
            plain[WORKERS] = str(self.workers)
        if self.log:
            plain |= self.log.variables
            secret |= self.log.secrets
        return VariableReader(self.name, plain, secret)


class HostEnvironment(Environment):
    """An environment on the worker's own host, behind its proxy.

    Attributes:
        port: TCP port of the public URL, on loopback.
        replicas: Number of model servers that share the traffic.
        canary: Shares of the predictions that a new version gets before it gets all, in percent;
            empty to move all at once.
        canary_seconds: Time of the comparison with the live version at each share.
        canary_requests: Requests that each of the two needs for that; with fewer, the golden
            predictions decide alone.
        canary_errors: Percent points by which its share of errors may exceed the live one's.
        canary_slower: Factor by which its requests may take longer than the live version's.
        watch: Time after the switch in which a new version is compared with the last hour of the
            one before it, by the same limits, and rolled back if it is worse: `90s`, `30m` or
            `2h`; empty for none.
        shadow: Time such as `10m`, or number of requests, for which a new version is asked what
            clients ask the live one, before an approval or the switch; without it, none.
    """

    port: int = Field(8080, ge=1, le=65535)
    replicas: int = Field(1, ge=1, le=8)
    canary: Annotated[tuple[Percent, ...], LISTED] = ()
    canary_seconds: float = Field(60.0, gt=0)
    canary_requests: int = Field(50, ge=10)
    canary_errors: float = Field(1.0, ge=0, lt=100)
    canary_slower: float = Field(2.0, ge=1)
    watch: Duration = ""
    shadow: OptionalShadow = None

    @model_validator(mode="after")
    def _canary_grows_and_ends(self) -> Self:
        if list(self.canary) != sorted(set(self.canary)):
            raise ValueError("canary: each share has to be larger than the one before")
        if len(self.canary) * self.canary_seconds > CANARY_SECONDS:
            raise ValueError(f"canary: its steps may take {CANARY_SECONDS:g} s in all")
        return self

    @model_validator(mode="after")
    def _watch_ends(self) -> Self:
        if self.watch_seconds > WATCH_SECONDS:
            raise ValueError(f"watch: {WATCH_SECONDS / 3600:g}h at most")
        return self

    @model_validator(mode="after")
    def _shadow_leaves_records(self) -> Self:
        if self.shadow and (self.log is None or self.log.share < 1):
            raise ValueError(
                "shadow: it needs a prediction log of all requests: set `log = {share = 1.0}`"
            )
        return self

    @property
    def watch_seconds(self) -> float:
        """The time of the watch after the switch; 0 without one."""
        return seconds_of(self.watch)

    @property
    def url(self) -> str:
        """The public URL of the live model."""
        return f"http://127.0.0.1:{self.port}"


class ImageEnvironment(Environment):
    """An environment whose target runs the model's container image.

    Attributes:
        repository: Destination of images, `registry/repository`.
        base: Their base image; `{python}` stands for the model's Python version.
        platforms: Operating system and processor of each build.
        registry_block: Name of a Secret block with `username` and `password` for the registry;
            empty for a registry that asks for none.
    """

    repository: str
    base: str = "python:{python}-slim"
    platforms: Annotated[tuple[Platform, ...], LISTED] = ("linux/amd64",)
    registry_block: str = ""


class CloudEnvironment(ImageEnvironment):
    """An environment whose target is a platform elsewhere, which runs the model's image.

    Attributes:
        url: The public URL of the live model; empty where the platform says it.
    """

    url: str = Field("", pattern=r"^(https?://\S+[^/\s])?$")

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_needs_a_proxy(cls, values: object) -> object:
        for key, deed in {"watch": "counts", "shadow": "mirrors"}.items():
            if isinstance(values, Mapping) and key in values:
                raise ValueError(
                    f"{key}: only the targets `process` and `docker` take it: their proxy {deed}"
                    " requests"
                )
        return values
