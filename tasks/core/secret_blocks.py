"""Secret blocks that `slipway apply` makes, each from a variable of its name."""

from __future__ import annotations

GIT_TOKEN = "slipway-git-token"  # noqa: S105 - by which workers clone a private origin over https
# None of them has to be there.
SECRETS = (
    GIT_TOKEN,
    "slipway-fly-token",
    "slipway-heroku-token",
    "slipway-kubeconfig",  # the text of a kubeconfig
)


def variable(block: str) -> str:
    """The variable that such a block is made from: its name in capitals."""
    return block.upper().replace("-", "_")


def renewal(block: str) -> str:
    """What to do so that a Secret block holds what it should.

    Args:
        block: Its name; other blocks than these are people's own.

    Returns:
        The step, for the end of an error.
    """
    if block in SECRETS:
        return f"set {variable(block)} and run `slipway apply`"
    return f"create or correct block {block}, of type Secret, in the Prefect UI"
