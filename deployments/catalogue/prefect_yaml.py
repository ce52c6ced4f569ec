"""What `prefect.yaml` declares, and whether a server has it: without importing Prefect."""

from __future__ import annotations

import hashlib
import re
import shlex
import subprocess
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

# On the server and not in a file, so it cannot outlive the database that it speaks of.
_VARIABLE = "slipway_registered"
_PASSWORD = re.compile(r"://[^/@]*:[^/@]*@|^https?://[^/@]+@")


@dataclass(frozen=True)
class Manifest:
    """What `prefect.yaml` says, anchors resolved and templates not.

    Attributes:
        values: All of it.
    """

    values: Mapping[str, Any]

    @classmethod
    def read(cls, checkout: Path) -> Manifest:
        """Read it.

        Args:
            checkout: The folder that it is in.

        Returns:
            The manifest.
        """
        return cls(YAML(typ="safe").load(checkout / "prefect.yaml"))

    @property
    def deployments(self) -> list[dict[str, Any]]:
        """The deployments."""
        found: list[dict[str, Any]] = self.values["deployments"]
        return found

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of the deployments, as `flow/deployment`."""
        return frozenset(
            f"{each['entrypoint'].rpartition(':')[2]}/{each['name']}" for each in self.deployments
        )

    @property
    def build(self) -> list[dict[str, Any]]:
        """The steps that find out what deployments are filled in with: the commit."""
        found: list[dict[str, Any]] = self.values.get("build") or []
        return found

    @property
    def work_pool(self) -> str:
        """Name of the work pool."""
        return str(self.values["definitions"]["work_pool"]["name"])

    @property
    def pool(self) -> Mapping[str, Any]:
        """What the work pool is like."""
        found: Mapping[str, Any] = self.values["definitions"]["pool"]
        return found

    @property
    def variables(self) -> Mapping[str, str]:
        """Values of Prefect variables, by name."""
        found: Mapping[str, str] = self.values["definitions"].get("variables") or {}
        return found

    def version(self, checkout: Path) -> str:
        """What the build steps that are commands say: the commit that versions are taken from."""
        said = []
        for step in self.build:
            for name, inputs in step.items():
                if name.endswith(".run_shell_script"):
                    argv = shlex.split(inputs["script"])
                    done = subprocess.run(
                        argv, cwd=checkout, capture_output=True, text=True, check=False
                    )
                    said.append(done.stdout.strip())
        return "\n".join(said)

    def pull(self, environment: Mapping[str, str]) -> list[dict[str, Any]]:
        """The steps by which workers get the code.

        Args:
            environment: Variables: with SLIPWAY_CHECKOUT, from that folder; else, if
                SLIPWAY_ORIGIN is a URL, by a clone of it.

        Returns:
            The steps.

        Raises:
            ConfigurationError: Neither is set.
        """
        if environment.get("SLIPWAY_CHECKOUT"):
            return self._pull("checkout")
        origin = environment.get("SLIPWAY_ORIGIN", "")
        if _PASSWORD.search(origin):
            raise ConfigurationError(
                "SLIPWAY_ORIGIN has a password in it, which whoever sees the deployments would see",
                state="nothing was changed",
                next_step="take it out of the URL, and set SLIPWAY_GIT_TOKEN to it",
            )
        if is_url(origin):
            return self._pull("clone")
        raise ConfigurationError(
            "neither SLIPWAY_ORIGIN is a Git URL that workers can clone, nor SLIPWAY_CHECKOUT the "
            "folder in which their own checkout is",
            state="nothing was changed",
            next_step="export SLIPWAY_ORIGIN=https://…, or write it into .env beside prefect.yaml",
        )

    def _pull(self, name: str) -> list[dict[str, Any]]:
        steps: list[dict[str, Any]] = self.values["definitions"]["pull"][name]
        return steps


def is_url(origin: str) -> bool:
    """Whether other hosts can clone it: `https://…`, `ssh://…`, `git@host:path`."""
    return "://" in origin or (":" in origin and not origin.startswith(("/", ".")))


def digest(checkout: Path, environment: Mapping[str, str], options: Collection[str] = ()) -> str:
    """Everything that applying depends on, as one short text.

    Args:
        checkout: The folder of `prefect.yaml` and the flows.
        environment: The variables that it is done with.
        options: The options that it is done with.

    Returns:
        A digest that tells nothing about the secrets in it.
    """
    files = [
        checkout / "prefect.yaml",
        *checkout.glob("flows/**/*.py"),
        *checkout.glob("deployments/**/*.py"),
        *checkout.glob("flows/parameters.py"),  # what forms offer
    ]
    variables = block_variables.secret_variables() | automation_timeouts.variables()
    variables |= {"SLIPWAY_CHECKOUT", "SLIPWAY_ORIGIN"}
    parts = [f"{path.relative_to(checkout)}\n{path.read_text()}" for path in sorted(files)]
    parts += [path.name for path in sorted(checkout.glob("deployments/environments/*"))]
    parts += [
        f"{name}={value}"
        for name, value in sorted(environment.items())
        if name in variables or name.startswith(block_variables.PREFIX)
    ]
    parts += [*sorted(options), version("prefect"), Manifest.read(checkout).version(checkout)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def is_registered(api: PrefectAPI, manifest: Manifest, expected: str) -> bool:
    """Whether the server has what it should, so that nothing is to be done.

    Args:
        api: The server.
        manifest: What `prefect.yaml` says.
        expected: The digest of what it should have.

    Returns:
        True if it was made from the same inputs and nobody deleted any of it since. What somebody
        edited is not seen: `apply` looks at everything.
    """
    return (
        api.read_variable(_VARIABLE) == expected
        and manifest.names <= api.list_deployments()
        and api.list_blocks() >= block_variables.NAMES
    )


def mark_registered(api: PrefectAPI, expected: str) -> None:
    """Note on the server that it has everything.

    Args:
        api: The server.
        expected: The digest of what it has.
    """
    api.set_variable(_VARIABLE, expected)
