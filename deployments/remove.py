"""Take an environment down: `python -m deployments.remove <environment> --yes`.

What serves is ended, and nothing that a deploy has made stays on the platform, but what the page of
its target names. To be typed where deploys run, with the worker's variables. The history on origin
stays; the environment's file and its lines in prefect.yaml are yours to delete.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from dotenv import load_dotenv

from deployments.apply import add_env_file
from deployments.doctor import add_home, use_local_stack
from deployments.local.stack import Stack
from tasks.core.errors import SlipwayError


async def take_down(name: str, *, sure: bool) -> str:
    """Take an environment down, while nobody deploys to it.

    Args:
        name: Its name.
        sure: Whether to do it; else it is only said what would be.

    Returns:
        What was done, in one sentence.

    Raises:
        SlipwayError: The platform does not do it; says what to do.
    """
    # They import Prefect, which may be imported now that its variables are set.
    from tasks.platforms.catalogue import load_environment, make_target
    from tasks.release.locks.lock import hold, lock_of

    settings = load_environment(name)
    target = make_target(settings)
    live = await target.status()
    serves = f"{live.label} is live at {target.url}" if live else "nothing is live"
    if not sure:
        return f"{name}: {serves}. To take it down: python -m deployments.remove {name} --yes"
    async with hold(lock_of(settings), "nothing: it is taken down"):
        await target.remove()
    return f"{name} is taken down; before, {serves}"


def main() -> int:
    """Take one environment down; the exit code says whether it is."""
    parser = argparse.ArgumentParser(
        prog="deployments.remove",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("environment", help="a file in deployments/environments, without .toml")
    parser.add_argument("--yes", action="store_true", help="do it; else only say what is live")
    add_home(parser)
    add_env_file(parser)
    arguments = parser.parse_args()
    load_dotenv(arguments.env_file)
    use_local_stack(Stack(arguments.home))
    try:
        print(asyncio.run(take_down(arguments.environment, sure=arguments.yes)))
    except SlipwayError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
