"""Play GitHub for the local stack: `python -m deployments.local.post_receive --home HOME OLD NEW`.

The hook of the stack's origin calls it for a push that moved main from one commit to another. If
the workflow at the new commit is for what has changed, it asks for a deploy as the workflow does.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import yaml

from deployments.prefect_api.client import PrefectAPI
from deployments.trigger import request_deploy_patiently
from tasks.core.errors import SlipwayError
from tasks.repository.git import Git

WORKFLOW = ".github/workflows/deploy.yaml"
_NOTHING = re.compile("0+")  # how Git writes the commit of a branch that was not there


def paths_of(workflow: str) -> list[str]:
    """The patterns of paths for which a workflow runs on a push.

    Args:
        workflow: Its YAML.

    Returns:
        The patterns.
    """
    # YAML 1.1 takes the key `on` for a boolean, this loader takes every scalar as it is written.
    content = yaml.load(workflow, Loader=yaml.BaseLoader)  # noqa: S506
    return list(content["on"]["push"]["paths"])


def concerns(paths: Iterable[str], patterns: Iterable[str]) -> bool:
    """Whether any of the paths matches any of the patterns.

    Args:
        paths: Paths of files in the repository.
        patterns: Patterns of GitHub's, of which `*` (within a folder) and `**` are known.

    Returns:
        True if one does.
    """
    expressions = [
        re.compile(re.escape(each).replace(r"\*\*", ".*").replace(r"\*", "[^/]*"))
        for each in patterns
    ]
    return any(each.fullmatch(path) for path in paths for each in expressions)


def wants_deploy(origin: Git, old: str, new: str) -> bool:
    """Whether GitHub would deploy a push that moved main from one commit to another.

    Args:
        origin: The repository.
        old: The commit that main was at; zeros if it was not there.
        new: The commit that it is at now; zeros if it is gone.

    Returns:
        True if the workflow at the new commit is for what has changed.
    """
    if _NOTHING.fullmatch(new) or origin.run("cat-file", "-e", f"{new}:{WORKFLOW}").code:
        return False
    if _NOTHING.fullmatch(old):
        changed = origin("ls-tree", "-r", "-z", "--name-only", new)
    else:
        changed = origin("diff", "-z", "--name-only", "--no-renames", old, new)
    return concerns(changed.split("\0"), paths_of(origin("show", f"{new}:{WORKFLOW}")))


def main() -> int:
    """Ask for a deploy if there is something to deploy; what comes of it shows in Prefect."""
    parser = argparse.ArgumentParser(prog="deployments.local.post_receive", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="folder of the local stack")
    parser.add_argument("old")
    parser.add_argument("new")
    arguments = parser.parse_args()
    os.setsid()  # what happens to the pusher's terminal is no concern of ours
    described = json.loads((arguments.home / "stack.json").read_text())
    said = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} main is at {arguments.new[:7]}"
    if not wants_deploy(Git(Path(described["origin"])), arguments.old, arguments.new):
        print(f"{said}: nothing in it is served")
        return 0
    try:
        with PrefectAPI(described["prefect_api_url"]) as api:
            run = request_deploy_patiently(api, described["main_environment"], arguments.new)
            print(f"{said}: {api.ui_url(run)}")
    except SlipwayError as error:
        print(f"{said}, and was not deployed: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
