"""Play the CI for the local stack: `python -m deployments.local.post_receive --home HOME OLD NEW`.

The hook of the stack's origin calls it for a push that moved main from one commit to another. If
the workflow of GitHub (or, without one, the pipeline of GitLab) at the new commit runs for the
changed paths, it requests a deploy as that would.
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

from deployments.local import credentials
from deployments.prefect_api.client import PrefectAPI
from deployments.prefect_api.server_auth import basic
from deployments.trigger import request_deploy_patiently
from tasks.core.errors import SlipwayError
from tasks.repository.git import Git

WORKFLOW = ".github/workflows/deploy.yaml"
PIPELINE = "deployments/gitlab/pipeline.yml"
_WILDCARDS = {r"\*\*/": "(?:.*/)?", r"\*\*": ".*", r"\*": "[^/]*"}
_WILDCARD = re.compile("|".join(map(re.escape, _WILDCARDS)))
_NO_COMMIT = re.compile("0+")  # how Git writes the commit of a branch that was not there


def paths_of(workflow: str) -> list[str]:
    """Return the patterns of paths for which a workflow, given as YAML, runs on a push."""
    # YAML 1.1 takes the key `on` for a boolean, this loader takes every scalar as it is written.
    content = yaml.load(workflow, Loader=yaml.BaseLoader)  # noqa: S506
    return list(content["on"]["push"]["paths"])


def changes_of(pipeline: str) -> list[str]:
    """Return the patterns of paths for which the job `deploy` of GitLab's pipeline runs."""
    # The first document describes inputs. The loader takes every scalar as it is written, also
    # those with tags of GitLab's.
    *_, content = yaml.load_all(pipeline, Loader=yaml.BaseLoader)
    return [path for rule in content["deploy"]["rules"] for path in rule.get("changes", ())]


def match_any(paths: Iterable[str], patterns: Iterable[str]) -> bool:
    """Return whether any of the paths matches any of the patterns.

    Args:
        paths: Paths of files in the repository.
        patterns: Patterns of GitHub's or GitLab's, of which `*` (within a folder), `**` and `**/`
            are supported.
    """
    expressions = [
        re.compile(_WILDCARD.sub(lambda match: _WILDCARDS[match[0]], re.escape(pattern)))
        for pattern in patterns
    ]
    return any(regex.fullmatch(path) for path in paths for regex in expressions)


def needs_deploy(origin: Git, old: str, new: str) -> bool:
    """Return whether the CI would deploy a push that moved main from one commit to another.

    Args:
        origin: The repository.
        old: The commit that main was at; zeros if it did not exist.
        new: The commit that it is at now; zeros if it was deleted.
    """
    patterns = None if _NO_COMMIT.fullmatch(new) else read_patterns(origin, new)
    if patterns is None:
        return False
    if _NO_COMMIT.fullmatch(old):
        changed = origin("ls-tree", "-r", "-z", "--name-only", new)
    else:
        changed = origin("diff", "-z", "--name-only", "--no-renames", old, new)
    return match_any(changed.split("\0"), patterns)


def read_patterns(origin: Git, commit: str) -> list[str] | None:
    """Return the patterns of the paths that a commit's CI deploys, None if it has no CI."""
    for path, read in ((WORKFLOW, paths_of), (PIPELINE, changes_of)):
        shown = origin.run("show", f"{commit}:{path}")
        if not shown.code:
            return read(shown.stdout)
    return None


def main() -> int:
    """Request a deploy if the push needs one; its outcome shows in Prefect."""
    parser = argparse.ArgumentParser(prog="deployments.local.post_receive", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="folder of the local stack")
    parser.add_argument("old")
    parser.add_argument("new")
    arguments = parser.parse_args()
    os.setsid()  # so that closing the pusher's terminal does not end this process
    stack = json.loads((arguments.home / "stack.json").read_text())
    prefix = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} main is at {arguments.new[:7]}"
    if not needs_deploy(Git(Path(stack["origin"])), arguments.old, arguments.new):
        print(f"{prefix}: the push changed nothing that is deployed")
        return 0
    try:
        secrets = credentials.load(arguments.home / "secrets")
        with PrefectAPI(stack["prefect_api_url"], basic(secrets.prefect)) as api:
            run = request_deploy_patiently(api, stack["main_environment"], arguments.new)
            print(f"{prefix}: {api.ui_url(run)}")
    except SlipwayError as error:
        print(f"{prefix}; it was not deployed: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
