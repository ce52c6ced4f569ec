"""The check of the sandbox in which code of a ref runs on this host, by making a box."""

from __future__ import annotations

from deployments.diagnosis.finding import Finding
from tasks.core.settings import Settings
from tasks.sandbox.bubblewrap import find_bubblewrap

_THING = "sandbox"
_FIX = (
    "allow user namespaces on this host (docs/security.md), or set SLIPWAY_SANDBOX=container for a"
    " worker in a container of its own that holds no secrets"
)


def check_sandbox(*, required: bool) -> Finding:
    """Check that code of a ref runs in a sandbox on this host.

    Args:
        required: Whether a host without is a problem, or a warning.
    """
    if Settings().sandbox == "container":
        return Finding(_THING, "the worker is in a container of its own, says SLIPWAY_SANDBOX")
    if path := find_bubblewrap():
        return Finding(_THING, f"code of a ref runs in boxes of {path}")
    reason = "this host cannot run bubblewrap: code of a ref runs with all rights of the worker"
    if required:
        return Finding(_THING, reason, _FIX)
    return Finding(_THING, f"warning: {reason}; to change that: {_FIX}")
