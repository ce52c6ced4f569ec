"""Jobs of GitLab's pipeline, run by gitlab-ci-local: their scripts are real, in no container."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from tasks.core.settings import CHECKOUT

PIPELINE = CHECKOUT / "deployments" / "gitlab" / "pipeline.yml"
SHIPPED = CHECKOUT / ".gitlab-ci.yml"
_PACKAGE = "gitlab-ci-local@4.75.1"
# It is made for Node 22. Of what Node 20 lacks, which Debian has, it uses one method.
_FOR_NODE_20 = "Set.prototype.union ??= function (other) { return new Set([...this, ...other]); };"
_SECONDS = 200.0
_NOT_PASSED_ON = ("PREFECT_", "GITLAB_", "CI_", "SLIPWAY_", "AWS_", "VIRTUAL_ENV")
_PREDEFINED = (
    "CI_PIPELINE_SOURCE,CI_MERGE_REQUEST_PROJECT_ID,CI_MERGE_REQUEST_SOURCE_PROJECT_ID,"
    "CI_PROJECT_ID,CI_PIPELINE_ID,CI_COMMIT_SHA"
)


def install_gitlab_ci_local(folder: Path) -> Path:
    """Return the program, installed into a folder once a run; skip the test where it cannot be."""
    if not all(map(shutil.which, ("node", "npm", "rsync"))):
        pytest.skip("needs node, npm and rsync")
    if not PIPELINE.exists():
        pytest.skip("this repository has no pipeline of GitLab's")
    program = folder / "node_modules" / "gitlab-ci-local" / "dist" / "index.js"
    with FileLock(folder.with_suffix(".lock")):
        if not program.exists():
            folder.mkdir(exist_ok=True)
            (folder / "union.cjs").write_text(_FOR_NODE_20)
            options = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
            argv = ["npm", "install", *options, "--prefix", str(folder), _PACKAGE]
            if subprocess.run(argv, capture_output=True, check=False).returncode:
                pytest.skip(f"npm cannot install {_PACKAGE}")
    return program


def has_shipped_file() -> bool:
    """Return whether the user still has the root's part of the pipeline, with its inputs."""
    text = SHIPPED.read_text() if SHIPPED.exists() else ""
    return f"local: /{PIPELINE.relative_to(CHECKOUT)}" in text and "$[[ inputs.ref ]]" in text


@dataclass(frozen=True)
class GitLabCI:
    """A machine that runs jobs of a checkout's pipeline.

    Attributes:
        program: gitlab-ci-local.
        checkout: The checkout, on the branch main.
    """

    program: Path
    checkout: Path

    def run(
        self, *arguments: str, source: str = "push", variables: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Run jobs, or another command of gitlab-ci-local.

        Args:
            source: What has started the pipeline.
            variables: Variables of the project.

        Returns:
            The exit code and the output.
        """
        known = {"CI_PIPELINE_SOURCE": source, **(variables or {})}
        # The file in the root is the user's, who edits or removes it.
        file = SHIPPED if has_shipped_file() else PIPELINE
        union = str(self.program.parents[3] / "union.cjs")
        argv = [
            "node", "--require", union, str(self.program), "--force-shell-executor", "--no-color",
            "--file", str(file.relative_to(CHECKOUT)), "--no-evaluate-rule-changes",
            "--ignore-predefined-vars", _PREDEFINED,
            *(part for name, value in known.items() for part in ("--variable", f"{name}={value}")),
            *arguments,
        ]  # fmt: skip
        environment = {k: v for k, v in os.environ.items() if not k.startswith(_NOT_PASSED_ON)}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            argv, cwd=self.checkout, env=environment, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, timeout=_SECONDS,
            check=False,
        )  # fmt: skip
        return done.returncode, done.stdout
