"""Environments of the target `heroku`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tasks.platforms.base.settings import LISTED, CloudEnvironment

REGISTRY = "registry.heroku.com"


class HerokuEnvironment(CloudEnvironment):
    """An environment whose target is a Heroku app.

    Attributes:
        app: Its name; it is created if there is none.
        team: The team that a new app belongs to; empty for the account itself.
        region: Region of a new app.
        size: Size of a web dyno, as `standard-1x`; empty to leave it as it is.
        quantity: Number of web dynos; None to leave it as it is.
        preboot: Start new dynos before old ones stop; None to leave it as it is.
        token_block: Name of the Secret block with the token for the API and Heroku's own registry.
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
    platforms: Annotated[tuple[Literal["linux/amd64"]], LISTED] = ("linux/amd64",)

    @model_validator(mode="before")
    @classmethod
    def _name_repository(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {"repository": f"{REGISTRY}/{values.get('app')}/web", **values}
