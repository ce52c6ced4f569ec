"""Environments of the target `flyio`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from tasks.core.settings import CHECKOUT
from tasks.platforms.base.settings import CloudEnvironment
from tasks.platforms.flyio.fly_toml import read_fly_toml

REGISTRY = "registry.fly.io"


class FlyioEnvironment(CloudEnvironment):
    """An environment whose target is an app on Fly.io.

    What a `fly.toml` says counts where the environment's file is silent.

    Attributes:
        app: Name of the app; created if there is none.
        organization: Slug of the organization in which it is created.
        region: Region of its machines.
        machines: Number of machines.
        size: Processors of each, as Fly names them.
        memory: Memory of each.
        internal_port: TCP port that the server listens on in its machine.
        auto_stop: Let Fly stop or suspend idle machines; a request starts them.
        min_machines_running: Number of machines that stay running.
        proxy_seconds: Time for Fly's proxies to learn of a new route.
        fly_toml: flyctl's file, from the repository's root; one that is named has to be there.
        token_block: Name of the Secret block with the token for the API and Fly's own registry.
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
        path = CHECKOUT / values.get("fly_toml", "fly.toml")
        from_file = read_fly_toml(path, named="fly_toml" in values)
        app = values.get("app") or from_file.get("app")
        usual = {"url": f"https://{app}.fly.dev", "repository": f"{REGISTRY}/{app}"}
        return {**usual, **from_file, **values}
