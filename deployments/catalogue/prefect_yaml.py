"""The deployments that this repository declares, and whether a server has them: without Prefect.

`deployments/prefect.yaml` is written by hand; each environment adds its own deployments to it. The
result is also written to `prefect.yaml`, which Git ignores: so a later version of the template and
an environment of the user's never meet in one file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from deployments.catalogue import automation_timeouts, block_variables
from deployments.prefect_api.client import PrefectAPI
from tasks.core.errors import ConfigurationError
from tasks.core.settings import CHECKOUT
from tasks.platforms.catalogue import FOLDER, PLATFORMS, environment_names

SOURCE = "deployments/prefect.yaml"
GENERATED = "prefect.yaml"
# The flows that have a deployment per environment; each is the name of an anchor in the source.
_PER_ENVIRONMENT = ("deploy", "rollback")
# And of those whose requests are counted.
_WATCH = "watch"
# And of those that keep a prediction log: the key of their file, and the flow that reads it.
_LOG, _MONITOR = "log", "monitor"
_HEADER = f"""\
# Generated from {SOURCE} and deployments/environments/ by `slipway apply`,
# `slipway new environment` and `make setup`; changes in this file are lost.

"""

# On the server and not in a file, so it cannot outlive the database that it speaks of.
_VARIABLE = "slipway_registered"
_PASSWORD = re.compile(r"://[^/@]*:[^/@]*@|^https?://[^/@]+@")


@dataclass(frozen=True)
class Manifest:
    """The content of `prefect.yaml`, with anchors resolved and templates not."""

    values: Mapping[str, Any]

    @classmethod
    def read(cls, checkout: Path) -> Manifest:
        """Read the declarations of a checkout, environments included."""
        return cls(YAML(typ="safe").load(render(checkout)))

    @property
    def deployments(self) -> list[dict[str, Any]]:
        """The declared deployments."""
        declared: list[dict[str, Any]] = self.values["deployments"]
        return declared

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of the deployments, as `flow/deployment`."""
        return frozenset(
            f"{declared['entrypoint'].rpartition(':')[2]}/{declared['name']}"
            for declared in self.deployments
        )

    @property
    def schedules_of_missing_environments(self) -> list[str]:
        """Schedules that name an environment which has no file, described for people."""
        known = {name.partition("/")[2] for name in self.names if name.startswith("deploy/")}
        return [
            f"schedule {schedule['slug']} of {declared['name']}: environment {environment!r}"
            for declared in self.deployments
            for schedule in declared.get("schedules", [])
            if (environment := schedule.get("parameters", {}).get("environment"))
            and environment not in known
        ]

    @property
    def build(self) -> list[dict[str, Any]]:
        """The steps whose outputs fill in the deployments' templates: the commit."""
        steps: list[dict[str, Any]] = self.values.get("build") or []
        return steps

    @property
    def work_pool(self) -> str:
        """Name of the work pool."""
        return str(self.values["definitions"]["work_pool"]["name"])

    @property
    def pool(self) -> Mapping[str, Any]:
        """Type, limit and command of the work pool."""
        pool: Mapping[str, Any] = self.values["definitions"]["pool"]
        return pool

    @property
    def variables(self) -> Mapping[str, str]:
        """Values of Prefect variables, by name."""
        variables: Mapping[str, str] = self.values["definitions"].get("variables") or {}
        return variables

    def version(self, checkout: Path) -> str:
        """Return the output of the build steps: the commit that is the deployments' version."""
        outputs = []
        for step in self.build:
            for name, inputs in step.items():
                if name.endswith(".run_shell_script"):
                    argv = shlex.split(inputs["script"])
                    done = subprocess.run(
                        argv, cwd=checkout, capture_output=True, text=True, check=False
                    )
                    outputs.append(done.stdout.strip())
        return "\n".join(outputs)

    def pull(self, environment: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return the steps by which workers get the code.

        Args:
            environment: Variables. SLIPWAY_CHECKOUT names a folder on the worker's host; without
                it, workers clone SLIPWAY_ORIGIN.

        Raises:
            ConfigurationError: Neither is set.
        """
        if environment.get("SLIPWAY_CHECKOUT"):
            return self._pull("checkout")
        origin = environment.get("SLIPWAY_ORIGIN", "")
        if _PASSWORD.search(origin):
            raise ConfigurationError(
                "SLIPWAY_ORIGIN contains a password, which everybody who sees the deployments would"
                " see",
                state="nothing was changed",
                next_step="remove it from the URL, and set SLIPWAY_GIT_TOKEN to it",
            )
        if is_url(origin):
            return self._pull("clone")
        raise ConfigurationError(
            "workers have no source of code: SLIPWAY_ORIGIN is no Git URL, and SLIPWAY_CHECKOUT is"
            " not set",
            state="nothing was changed",
            next_step="export SLIPWAY_ORIGIN=https://…, or write it into .env",
        )

    def _pull(self, name: str) -> list[dict[str, Any]]:
        steps: list[dict[str, Any]] = self.values["definitions"]["pull"][name]
        return steps


def render(checkout: Path, environments: Path | None = None) -> str:
    """Return the whole `prefect.yaml`: the source, and the deployments of each environment.

    Args:
        checkout: The repository.
        environments: Folder of the environments' files; by default that of the checkout.
    """
    folder = environments or environments_folder(checkout)
    names = environment_names(folder)
    flows = [(flow, name) for flow in _PER_ENVIRONMENT for name in names]
    files = {name: _read_environment(folder / f"{name}.toml") for name in names}
    flows += [(_WATCH, name) for name, values in files.items() if _counts_requests(values)]
    flows += [(_MONITOR, name) for name, values in files.items() if _LOG in values]
    lines = [
        f"  - {{<<: *{flow}, name: {name}, parameters: {{environment: {name}}}}}\n"
        for flow, name in ((flow, json.dumps(name)) for flow, name in flows)
    ]
    return _HEADER + (checkout / SOURCE).read_text() + "\n" + "".join(lines)


def _read_environment(file: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except tomllib.TOMLDecodeError:  # whoever loads the environment says so
        return {}


def _counts_requests(values: Mapping[str, Any]) -> bool:
    """Return whether the target of an environment takes the key `watch`."""
    platform = PLATFORMS.get(values.get("target", ""))
    return platform is not None and _WATCH in platform.load_settings().model_fields


def environments_folder(checkout: Path) -> Path:
    """Return the folder of a checkout's environments; of this one, a variable may name another."""
    return FOLDER if checkout == CHECKOUT else _own_folder(checkout)


def _own_folder(checkout: Path) -> Path:
    return checkout / "deployments" / "environments"


def write_prefect_yaml(checkout: Path) -> None:
    """Write `prefect.yaml` for Prefect's own commands, if it differs.

    It has the checkout's own environments even while a variable names another folder, as in tests:
    the file stays when the variable is gone.
    """
    path, text = checkout / GENERATED, render(checkout, _own_folder(checkout))
    if path.is_file() and path.read_text() == text:
        path.touch()  # newer than its sources, for make
        return
    draft = path.with_suffix(f".{os.getpid()}.draft")
    draft.write_text(text)
    draft.replace(path)


def is_url(origin: str) -> bool:
    """Return whether other hosts can clone it: `https://…`, `ssh://…`, `git@host:path`."""
    return "://" in origin or (":" in origin and not origin.startswith(("/", ".")))


def digest(checkout: Path, environment: Mapping[str, str], options: Collection[str] = ()) -> str:
    """Return a digest of everything that applying depends on; it reveals no secret.

    Args:
        checkout: The repository.
        environment: Variables of `apply`.
        options: Options of `apply`.
    """
    files = [
        *checkout.glob("flows/**/*.py"),
        *checkout.glob("deployments/**/*.py"),
    ]
    variables = block_variables.secret_variables() | automation_timeouts.variables()
    variables |= {"SLIPWAY_CHECKOUT", "SLIPWAY_ORIGIN", "SLIPWAY_STORE"}
    parts = [f"{path.relative_to(checkout)}\n{path.read_text()}" for path in sorted(files)]
    parts.append(render(checkout))
    parts += [
        f"{name}={value}"
        for name, value in sorted(environment.items())
        if name in variables or name.startswith(block_variables.PREFIXES)
    ]
    parts += [*sorted(options), version("prefect"), Manifest.read(checkout).version(checkout)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def is_registered(api: PrefectAPI, manifest: Manifest, expected: str) -> bool:
    """Return whether the server was made from the same inputs, and nothing was deleted since.

    Edits on the server are not noticed here: `apply` compares everything.

    Args:
        api: The server.
        manifest: The declarations.
        expected: The digest of the inputs.
    """
    return (
        api.read_variable(_VARIABLE) == expected
        and manifest.names <= api.list_deployments()
        and api.list_blocks() >= block_variables.NAMES
    )


def mark_registered(api: PrefectAPI, expected: str) -> None:
    """Record on the server the digest of the inputs that it was made from."""
    api.set_variable(_VARIABLE, expected)


if __name__ == "__main__":
    write_prefect_yaml(CHECKOUT)
