"""The results of a job of GitLab CI: variables of later jobs, links on its page, a summary."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deployments.ci.job import DeployJob, summary

# The pipeline names the folder, and takes these files of it as artifacts.
FOLDER_VARIABLE = "SLIPWAY_JOB_FOLDER"
_OUTPUTS = "outputs.env"
_LINKS = "links.json"
_SUMMARY = "summary.md"
_LABELS = {"run_url": "run in the Prefect UI", "url": "live model"}


@dataclass
class GitLabJob(DeployJob):
    """The job that runs this process.

    Attributes:
        folder: The folder whose files the pipeline uploads.
    """

    folder: Path = Path()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> GitLabJob | None:
        """Return the job that the variables of GitLab's runner describe, None outside of one."""
        if not environment.get("GITLAB_CI") or not environment.get(FOLDER_VARIABLE):
            return None
        folder = Path(environment[FOLDER_VARIABLE])
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder=folder)

    def finish(self, reason: str = "") -> None:
        """Write the summary."""
        text = summary(self.title, self.run_url, self.result, reason)
        (self.folder / _SUMMARY).write_text(text)

    def _output(self, **values: str) -> None:
        """Set variables SLIPWAY_… of later jobs and of the URL of the job's environment."""
        # GitLab reads the file as lines of NAME=value, without quotes, and refuses an empty URL.
        lines = {name: " ".join(value.split()) for name, value in values.items() if value}
        with (self.folder / _OUTPUTS).open("a") as file:
            file.writelines(f"SLIPWAY_{name.upper()}={value}\n" for name, value in lines.items())
        path = self.folder / _LINKS
        links = json.loads(path.read_text())["Slipway"] if path.exists() else []
        links += [
            {"external_link": {"label": label, "url": lines[name]}}
            for name, label in _LABELS.items()
            if name in lines
        ]
        path.write_text(json.dumps({"Slipway": links}))
