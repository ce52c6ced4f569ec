"""Environments: named places to deploy to, each a file in `deployments/environments/`."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from tasks.errors import ConfigurationError
from tasks.fly_toml import read_fly_toml
from tasks.settings import CHECKOUT

FOLDER = CHECKOUT / "deployments" / "environments"
# Quantities, as Kubernetes writes them.
_CPU = r"^\d+(\.\d{1,3}|m)?$"
_MEMORY = r"^\d+(k|M|G|Ki|Mi|Gi)?$"


# How long all canary steps may take; what a task of the rollout may take is more.
CANARY_SECONDS = 3600.0
Percent = Annotated[int, Field(ge=1, le=99)]


def _listed(value: object) -> object:
    """A list as a variable holds it, `10,50`."""
    return [each for each in value.split(",") if each] if isinstance(value, str) else value


class Environment(BaseModel):
    """What every environment has, whatever its target.

    Attributes:
        name: File name without `.toml`.
        target: Which platform adapter releases to it.
        keep: How many releases are kept for rollback.
        ready_seconds: How long a started model may take to get ready.
        soak_seconds: How long a new release must answer correctly before it is settled.
        approval: Whether a person is asked before each release; `suspend` ends the run's process
            until there is an answer.
        approval_hours: How long it waits for the answer; none in that time is a no.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    target: str
    keep: int = Field(3, ge=1)
    ready_seconds: float = Field(60.0, gt=0)
    soak_seconds: float = Field(2.0, ge=0)
    approval: Literal["none", "suspend"] = "none"
    approval_hours: float = Field(24.0, gt=0)


class HostEnvironment(Environment):
    """An environment on the worker's own host, behind its proxy.

    Attributes:
        port: TCP port of the public URL, on loopback.
        canary: Which shares of the predictions a new version gets before it gets all, in percent;
            none: it gets all at once.
        canary_seconds: How long it is compared with the live version at each share.
        canary_requests: How many requests each of the two must have had for that; with fewer, the
            golden predictions decide alone.
        canary_errors: By how many percent points its share of errors may be above the live one's.
        canary_slower: How many times longer than the live version's its requests may take.
    """

    port: int = Field(8080, ge=1, le=65535)
    canary: Annotated[tuple[Percent, ...], BeforeValidator(_listed)] = ()
    canary_seconds: float = Field(60.0, gt=0)
    canary_requests: int = Field(50, ge=10)
    canary_errors: float = Field(1.0, ge=0, lt=100)
    canary_slower: float = Field(2.0, ge=1)

    @model_validator(mode="after")
    def _canary_grows_and_ends(self) -> Self:
        if list(self.canary) != sorted(set(self.canary)):
            raise ValueError("canary: each share has to be larger than the one before")
        if len(self.canary) * self.canary_seconds > CANARY_SECONDS:
            raise ValueError(f"canary: its steps may take {CANARY_SECONDS:g} s in all")
        return self

    @property
    def url(self) -> str:
        """The public URL of the live model."""
        return f"http://127.0.0.1:{self.port}"


class ProcessEnvironment(HostEnvironment):
    """An environment whose target is a process on the worker's own host."""

    target: Literal["process"]


class ImageEnvironment(Environment):
    """An environment whose target runs the model's container image.

    Attributes:
        repository: Where images are pushed, `registry/repository`.
        base: What they are built upon; `{python}` stands for the model's Python version.
        platforms: What they are built for.
        registry_block: Name of a Secret block with `username` and `password` for the registry;
            empty for a registry that asks for none.
    """

    repository: str
    base: str = "python:{python}-slim"
    platforms: tuple[Literal["linux/amd64", "linux/arm64"], ...] = ("linux/amd64",)
    registry_block: str = ""


class DockerEnvironment(HostEnvironment, ImageEnvironment):
    """An environment whose target is a container on the worker's own host.

    Attributes:
        engine: URL of the Docker engine; empty for the one that `docker` uses.
        memory: How much memory a container may use.
        cpus: How many processors it may use.
    """

    target: Literal["docker"]
    engine: str = ""
    memory: str = Field("1g", pattern=r"^\d+[kmg]$")
    cpus: float = Field(1.0, gt=0)


class RemoteEnvironment(ImageEnvironment):
    """An environment whose target is a platform elsewhere, which runs the model's image.

    Attributes:
        url: The public URL of the live model; empty where the platform says it.
    """

    url: str = Field("", pattern=r"^(https?://\S+[^/\s])?$")


class FlyioEnvironment(RemoteEnvironment):
    """An environment whose target is an app on Fly.io.

    What a `fly.toml` says counts where the environment's file is silent.

    Attributes:
        app: Name of the app; created if there is none.
        organization: Slug of the organization in which it is created.
        region: Where its machines are.
        machines: How many there are.
        size: Processors of each, as Fly names them.
        memory: Memory of each.
        internal_port: TCP port that the server listens on in its machine.
        auto_stop: Whether Fly stops or suspends machines that nobody asks; a request starts them.
        min_machines_running: How many it leaves running.
        proxy_seconds: How long Fly's proxies may take to learn where traffic goes.
        fly_toml: flyctl's file, from the repository's root.
        token_block: Name of the Secret block with the token for the API and the registry.
        api: URL of the Machines API.
    """

    target: Literal["flyio"]
    app: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=63)
    organization: str = Field(min_length=1)
    region: str = Field(pattern=r"^[a-z]{3}$")
    machines: int = Field(1, ge=1, le=20)
    size: str = Field("shared-cpu-1x", pattern=r"^(shared-cpu|performance)-\d+x$")
    memory: str = Field("1gb", pattern=r"^\d+(mb|gb)$")
    internal_port: int = Field(8080, ge=1024, le=65535)
    auto_stop: Literal["off", "stop", "suspend"] = "off"
    min_machines_running: int = Field(0, ge=0)
    proxy_seconds: float = Field(10.0, ge=0)
    fly_toml: str = "fly.toml"
    token_block: str = "slipway-fly-token"  # noqa: S105  # the name of the block
    api: str = "https://api.machines.dev/v1"

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: dict[str, Any]) -> dict[str, Any]:
        said = read_fly_toml(CHECKOUT / values.get("fly_toml", "fly.toml"))
        app = values.get("app") or said.get("app")
        usual = {"url": f"https://{app}.fly.dev", "repository": f"registry.fly.io/{app}"}
        return {**usual, **said, **values}


class Serverless(BaseModel):
    """A SageMaker endpoint without instances of its own.

    Attributes:
        memory_mb: Memory of one server, in steps of 1024.
        concurrency: How many requests are answered at once; more are turned away.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    memory_mb: int = Field(2048, ge=1024, le=6144, multiple_of=1024)
    concurrency: int = Field(5, ge=1, le=200)


class SageMakerEnvironment(RemoteEnvironment):
    """An environment whose target is an endpoint of Amazon SageMaker.

    Attributes:
        region: Region of AWS.
        role: ARN of the role that the endpoint's servers have; it may pull from the repository.
        platforms: The one that its instances are.
        endpoint: Name of the endpoint; empty for `slipway-<environment>`.
        aws_block: Name of the AwsCredentials block; empty for what the worker's host has.
        instance_type: Of the endpoint's instances.
        instances: How many there are.
        serverless: Instead of instances.
        traffic: How an update moves it: at once, a canary first, or step by step.
        step_percent: How much the canary, or each step, is.
        wait_seconds: How long SageMaker watches the alarms after each step.
        termination_seconds: How long the old servers stay after that.
        update_seconds: How long an update may take before SageMaker rolls it back.
        alarms: Names of CloudWatch alarms that roll an update back.
        alarm: Whether there is one of our own, on requests that the endpoint answers with 5xx.
    """

    target: Literal["sagemaker"]
    region: str = Field(pattern=r"^[a-z]{2,}(-[a-z]+)+-\d$")
    role: str = Field(pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/\S+$")
    platforms: tuple[Literal["linux/amd64", "linux/arm64"], ...] = Field(
        ("linux/amd64",), min_length=1, max_length=1
    )
    endpoint: str = Field("", pattern=r"^([a-zA-Z0-9](-*[a-zA-Z0-9]){0,33})?$")
    aws_block: str = "slipway-read-write"
    instance_type: str = Field("ml.m5.large", pattern=r"^ml\.\S+$")
    instances: int = Field(1, ge=1)
    serverless: Serverless | None = None
    traffic: Literal["all_at_once", "canary", "linear"] = "all_at_once"
    step_percent: int = Field(10, ge=10, le=50)
    wait_seconds: int = Field(60, ge=0, le=3600)
    termination_seconds: int = Field(60, ge=0, le=3600)
    update_seconds: int = Field(1800, ge=600, le=3600)
    alarms: tuple[str, ...] = Field((), max_length=9)
    alarm: bool = True

    @property
    def endpoint_name(self) -> str:
        """Name of the endpoint."""
        return self.endpoint or f"slipway-{self.name.replace('_', '-')}"


class HerokuEnvironment(RemoteEnvironment):
    """An environment whose target is a Heroku app.

    Attributes:
        app: Its name; it is created if there is none.
        team: The team that a new app belongs to; empty for the account itself.
        region: Where a new app runs.
        size: Size of a web dyno, as `standard-1x`; empty to leave it as it is.
        quantity: How many web dynos run; None to leave it as it is.
        preboot: Whether new dynos start before old ones stop; None to leave it as it is.
        token_block: Name of the Secret block with the API token.
        api: URL of the Platform API.
        repository: The registry's place for the app's `web` process; follows from `app`.
    """

    target: Literal["heroku"]
    app: str = Field(pattern=r"^[a-z][a-z0-9-]{1,28}[a-z0-9]$")
    team: str = ""
    region: str = "us"
    size: str = ""
    quantity: int | None = Field(None, ge=1)
    preboot: bool | None = None
    token_block: str = "slipway-heroku-token"  # noqa: S105  # the block's name
    api: str = "https://api.heroku.com"
    # Its registry takes neither lists of platforms nor other processors.
    platforms: tuple[Literal["linux/amd64"]] = ("linux/amd64",)

    @model_validator(mode="before")
    @classmethod
    def _name_repository(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {"repository": f"registry.heroku.com/{values.get('app')}/web", **values}


class Autoscale(BaseModel):
    """How many replicas a cluster may choose between.

    Attributes:
        min: At least.
        max: At most.
        cpu: How busy they should be, in percent of the processors that they ask for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    min: int = Field(ge=1)
    max: int = Field(ge=1)
    cpu: int = Field(80, ge=1)


class KubernetesEnvironment(RemoteEnvironment):
    """An environment whose target is a Kubernetes cluster.

    Attributes:
        name: File name without `.toml`; objects in the cluster are named after it.
        url: The public URL of the live model.
        kubeconfig_block: Name of a Secret block that holds a kubeconfig; empty for the one that
            `kubectl` uses, or in a cluster for that cluster.
        context: Which context of the kubeconfig; empty for its current one.
        namespace: Where everything goes.
        create_namespace: Whether the namespace may be created; it is never deleted.
        replicas: How many pods serve.
        autoscale: Lets the cluster choose how many, instead of `replicas`.
        cpu: Processors that a pod is given.
        cpu_limit: Processors that it may use.
        memory: Memory that a pod is given.
        memory_limit: Memory that it may use.
        pull_secret: Name of a secret in the namespace with which nodes pull the image.
        service_type: How the service is reached.
        node_port: Its port on the nodes; 0 lets the cluster choose.
        ingress_host: Host name of an Ingress; empty for none.
        ingress_class: Its class; empty for the cluster's default.
        ingress_tls: Name of a secret in the namespace with the certificate of that host.
        schedule_seconds: How long a pod may wait for a node and for its image.
        steady_seconds: How long a pod has to be ready before the next old one goes.
        drain_seconds: How long an old pod goes on serving after it was taken out of the traffic.
    """

    target: Literal["kubernetes"]
    # 63 characters are what a name may have, and ours are longer.
    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,48}[a-z0-9])?$")
    url: str = Field(pattern=r"^https?://\S+[^/\s]$")
    kubeconfig_block: str = ""
    context: str = ""
    namespace: str = "default"
    create_namespace: bool = False
    replicas: int = Field(2, ge=1)
    autoscale: Autoscale | None = None
    cpu: str = Field("250m", pattern=_CPU)
    cpu_limit: str = Field("1", pattern=_CPU)
    memory: str = Field("512Mi", pattern=_MEMORY)
    memory_limit: str = Field("1Gi", pattern=_MEMORY)
    pull_secret: str = ""
    service_type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    node_port: int = Field(0, ge=0, le=65535)
    ingress_host: str = ""
    ingress_class: str = ""
    ingress_tls: str = ""
    schedule_seconds: int = Field(120, ge=1)
    steady_seconds: int = Field(5, ge=0)
    drain_seconds: int = Field(5, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.node_port and self.service_type == "ClusterIP":
            raise ValueError('node_port needs service_type = "NodePort" or "LoadBalancer"')
        if (self.ingress_class or self.ingress_tls) and not self.ingress_host:
            raise ValueError("ingress_class and ingress_tls need ingress_host")
        if self.autoscale and self.autoscale.min > self.autoscale.max:
            raise ValueError("autoscale.min is more than autoscale.max")
        return self


_KINDS: dict[str, type[Environment]] = {
    "docker": DockerEnvironment,
    "flyio": FlyioEnvironment,
    "heroku": HerokuEnvironment,
    "kubernetes": KubernetesEnvironment,
    "process": ProcessEnvironment,
    "sagemaker": SageMakerEnvironment,
}


def environment_names(folder: Path = FOLDER) -> list[str]:
    """The names that `load_environment` accepts, sorted."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def variable(name: str, key: str) -> str:
    """The variable that wins over a key of an environment's file."""
    return f"SLIPWAY_{name.upper().replace('-', '_')}_{key.upper()}"


def load_environment(name: str, folder: Path = FOLDER) -> Environment:
    """Read and check one environment; a variable `SLIPWAY_<NAME>_<KEY>` wins over the file.

    Args:
        name: Name of the environment.
        folder: Where the files are.

    Returns:
        The settings, of the class that belongs to its target.

    Raises:
        ConfigurationError: No such environment, or a key that is unknown or has a wrong value.
    """
    names = environment_names(folder)
    if name not in names:
        raise ConfigurationError(
            f"environment {name!r} does not exist; known: {', '.join(names) or 'none'}",
            state="nothing was started",
            next_step=f"create {folder.name}/{name}.toml or name one of the known environments",
        )
    path = folder / f"{name}.toml"
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(
            f"{path}: {error}", state="nothing was started", next_step=f"mend {path}"
        ) from error
    kind = _KINDS.get(values.get("target", ""))
    if kind is None:
        raise ConfigurationError(
            f"{path}: target = {values.get('target')!r} is unknown; known: {', '.join(_KINDS)}",
            state="nothing was started",
            next_step=f"set `target` in {path}",
        )
    for key in kind.model_fields.keys() - {"name", "target"}:
        if (value := os.environ.get(variable(name, key))) is not None:
            values[key] = value
    try:
        return kind.model_validate({**values, "name": name})
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, issue['loc']))}: {issue['msg']}" for issue in error.errors()
        )
        allowed = ", ".join(sorted(kind.model_fields.keys() - {"name"}))
        raise ConfigurationError(
            f"{path}: {problems}; allowed keys: {allowed}",
            state="nothing was started",
            next_step=f"mend {path} (or a variable {variable(name, '*')})",
        ) from error
