"""Removal of an environment from its platform: the live model, and all that deploys have made.

The page of the target names what stays.
"""

from __future__ import annotations


async def take_down(name: str, *, confirmed: bool) -> str:
    """Take an environment down, while nobody deploys to it.

    Args:
        name: Name of the environment.
        confirmed: False only reports what is live.

    Returns:
        One sentence that says what was done.

    Raises:
        SlipwayError: The platform refuses; says what to do.
    """
    # They import Prefect, which has to find its variables set.
    from tasks.platforms.catalogue import load_environment, make_target
    from tasks.release.locks.lock import hold, lock_of

    settings = load_environment(name)
    target = make_target(settings)
    live = await target.status()
    state = f"{live.label} is live at {target.url}" if live else "nothing is live"
    if not confirmed:
        return f"{name}: {state}. To take it down: slipway remove {name} --yes"
    async with hold(lock_of(settings), "nothing: the environment is taken down"):
        await target.remove()
    return f"{name} is down; before, {state}"
