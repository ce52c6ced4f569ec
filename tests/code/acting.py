"""Workflows, run by act: the steps are real, the actions of GitHub's own are stood in for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.core.settings import CHECKOUT

WORKFLOWS = CHECKOUT / ".github" / "workflows"
# A repository on another site may have removed them.
needs_workflows = pytest.mark.skipif(not WORKFLOWS.exists(), reason="there are no workflows")
_SECONDS = 500.0
_NOT_PASSED_ON = ("PREFECT_", "GITHUB_", "SLIPWAY_", "AWS_", "XDG_", "VIRTUAL_ENV")
# What the real ones do, as far as the workflows need it. FOLDER is where artifacts are kept.
_STAND_INS = {
    "actions/checkout": """
        inputs: {ref: {required: true}, path: {default: .}}
        outputs: {commit: {value: '${{ steps.it.outputs.commit }}'}}
        runs:
          using: composite
          steps:
            - id: it
              shell: bash
              env: {REF: '${{ inputs.ref }}', INTO: '${{ inputs.path }}'}
              run: |
                git clone --quiet --no-checkout ORIGIN "$INTO"
                git -C "$INTO" checkout --quiet "$REF"
                echo "commit=$(git -C "$INTO" rev-parse HEAD)" >> "$GITHUB_OUTPUT"
        """,
    "astral-sh/setup-uv": """
        runs:
          using: composite
          steps: [{shell: bash, run: uv --version}]
        """,
    "actions/upload-artifact": """
        inputs: {name: {required: true}, path: {required: true}}
        runs:
          using: composite
          steps:
            - shell: bash
              env: {FROM: '${{ inputs.path }}', NAME: '${{ inputs.name }}'}
              run: cp -R "$FROM" "FOLDER/$NAME"
        """,
    "actions/download-artifact": """
        inputs: {name: {required: true}, path: {required: true}}
        runs:
          using: composite
          steps:
            - shell: bash
              env: {NAME: '${{ inputs.name }}', INTO: '${{ inputs.path }}'}
              run: cp -R "FOLDER/$NAME" "$INTO"
        """,
}


@dataclass(frozen=True)
class Job:
    """The outcome of a workflow."""

    code: int
    output: str

    @property
    def run_id(self) -> str:
        """The Prefect run that it asked for."""
        match = re.search(r" run ([0-9a-f-]{36})", self.output)
        assert match, self.output
        return match[1]

    def set_output(self, name: str) -> str:
        """An output of a step."""
        match = re.search(rf"::set-output:: {name}=(\S*)", self.output)
        assert match, self.output
        return match[1]


@dataclass(frozen=True)
class Act:
    """A machine on which workflows run."""

    folder: Path
    origin: Path

    @property
    def artifacts(self) -> Path:
        """The folder of the artifacts that workflows uploaded."""
        return self.folder / "artifacts"

    def run(
        self,
        event: str,
        workflow: str,
        *,
        commit: str,
        job: str | None = None,
        payload: Mapping[str, Any] | None = None,
        secrets: Mapping[str, str] | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> Job:
        """Run a workflow of a commit for an event."""
        checkout = self._clone(commit)
        argv = [
            str(Path(sys.executable).with_name("act")), event, "--directory", str(checkout),
            "--workflows", f".github/workflows/{workflow}",
            "--platform", "ubuntu-latest=-self-hosted", "--container-daemon-socket", "-",
            "--action-offline-mode", "--no-cache-server",
            "--secret-file", self._write("secrets", _lines(secrets)),
            "--var-file", self._write("variables", _lines(variables)),
            "--eventpath", self._write("event.json", json.dumps(payload or {})),
            # Its own home is for act; programs that the steps start have the usual one.
            "--env", f"HOME={Path.home()}",
            *(["--job", job] if job else []),
            *self._stand_ins(checkout / ".github" / "workflows" / workflow),
        ]  # fmt: skip
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(_NOT_PASSED_ON)},
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "XDG_CACHE_HOME": str(home / "cache"),
            "XDG_CONFIG_HOME": str(home),
        }
        done = subprocess.run(
            argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, text=True, timeout=_SECONDS, check=False,
        )  # fmt: skip
        return Job(done.returncode, done.stdout)

    def _clone(self, commit: str) -> Path:
        into = self.folder / commit[:12]
        if not into.exists():
            clone = ["git", "clone", "--quiet", str(self.origin), str(into)]
            checkout = ["git", "-C", str(into), "checkout", "--quiet", "-B", "work", commit]
            for argv in (clone, checkout):
                subprocess.run(argv, check=True)
            # Stages have the environment of the checkout, which has been compiled already.
            (into / "model" / ".venv").symlink_to(CHECKOUT / "model" / ".venv")
        return into

    def _write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def _stand_ins(self, workflow: Path) -> list[str]:
        self.artifacts.mkdir(exist_ok=True)
        used = set(re.findall(r"uses: (\S+?)@([0-9a-f]{40})", workflow.read_text()))
        argv = []
        for name, commit in sorted(used):
            text = _STAND_INS[name].replace("ORIGIN", str(self.origin))
            action = yaml.safe_load(text.replace("FOLDER", str(self.artifacts)))
            folder = self.folder / name.replace("/", "-")
            folder.mkdir(exist_ok=True)
            description = {"name": name, "description": "stands in", **action}
            (folder / "action.yml").write_text(json.dumps(description))
            argv += ["--local-repository", f"{name}@{commit}={folder}"]
        return argv


def _lines(values: Mapping[str, str] | None) -> str:
    return "".join(f"{name}={value}\n" for name, value in (values or {}).items())
