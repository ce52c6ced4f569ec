"""Secret blocks that `slipway apply` makes, each from a variable of its name."""

from __future__ import annotations

GIT_TOKEN = "slipway-git-token"  # noqa: S105 - workers clone a private origin over https with it
SIGNING_KEY = "slipway-signing-key"  # workers sign commits, tags and models with it
# All of them are optional.
SECRETS = (
    GIT_TOKEN,
    SIGNING_KEY,
    "slipway-fly-token",
    "slipway-heroku-token",
    "slipway-kubeconfig",  # the text of a kubeconfig
)


def variable(block: str) -> str:
    """Return the variable that fills a block: its name in capitals."""
    return block.upper().replace("-", "_")


def renewal(block: str) -> str:
    """Return the next step after an error about a Secret block, which may be a user's own."""
    if block in SECRETS:
        return f"set {variable(block)} and run `slipway apply`"
    return f"create or correct block {block}, of type Secret, in the Prefect UI"
