"""The platforms, one row each, and the environments: their files, settings and targets.

Rows are dotted names, so that only the client of the platform that is used gets imported.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from tasks.core.errors import ConfigurationError
from tasks.core.settings import CHECKOUT
from tasks.platforms.base import policy
from tasks.platforms.base.settings import Environment
from tasks.training.rules import TrustedRules

if TYPE_CHECKING:  # else reading a file would cost what proofs need
    from tasks.platforms.base.target import AnyTarget

FOLDER = Path(
    os.environ.get("SLIPWAY_ENVIRONMENTS_FOLDER") or CHECKOUT / "deployments" / "environments"
)


@dataclass(frozen=True)
class Platform:
    """A row of the catalogue: two classes, as `module:class` below `tasks.platforms`."""

    settings: str
    target: str

    def load_settings(self) -> type[Environment]:
        """Import the class of the platform's settings."""
        kind: type[Environment] = resolve_name(f"{__package__}.{self.settings}")
        return kind

    def load_target(self) -> Callable[[Environment], AnyTarget]:
        """Import the class of the platform's target, and with it the platform's client."""
        kind: Callable[[Environment], AnyTarget] = resolve_name(f"{__package__}.{self.target}")
        return kind


PLATFORMS = {
    "docker": Platform("docker.settings:DockerEnvironment", "docker.target:DockerTarget"),
    "flyio": Platform("flyio.settings:FlyioEnvironment", "flyio.target:FlyioTarget"),
    "heroku": Platform("heroku.settings:HerokuEnvironment", "heroku.target:HerokuTarget"),
    "kubernetes": Platform(
        "kubernetes.settings:KubernetesEnvironment", "kubernetes.target:KubernetesTarget"
    ),
    "process": Platform("process.settings:ProcessEnvironment", "process.target:ProcessTarget"),
    "sagemaker": Platform(
        "sagemaker.settings:SageMakerEnvironment", "sagemaker.target:SageMakerTarget"
    ),
}


def environment_names(folder: Path = FOLDER) -> list[str]:
    """Return the names that `load_environment` accepts, sorted."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def variable(name: str, key: str) -> str:
    """Name the variable that overrides a key of an environment's file."""
    return f"SLIPWAY_{name.upper().replace('-', '_')}_{key.upper()}"


def load_environment(name: str, folder: Path = FOLDER) -> Environment:
    """Read and check one environment; a variable `SLIPWAY_<NAME>_<KEY>` overrides the file.

    Keys of its policy are read from the file alone: whoever sets variables does not decide them.

    Args:
        name: Name of the environment.
        folder: Folder of the files.

    Returns:
        The settings, of the class that belongs to its target.

    Raises:
        ConfigurationError: No such environment, a key that is unknown or has a wrong value, or a
            variable for a key of its policy.
    """
    names = environment_names(folder)
    if name not in names:
        raise ConfigurationError(
            f"environment {name!r} does not exist; known: {', '.join(names) or 'none'}",
            state="nothing was started",
            next_step=f"create {folder.name}/{name}.toml or name one of the known environments",
        )
    path = folder / f"{name}.toml"
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(
            f"{path}: {error}", state="nothing was started", next_step=f"fix {path}"
        ) from error
    platform = PLATFORMS.get(values.get("target", ""))
    if platform is None:
        raise ConfigurationError(
            f"{path}: target = {values.get('target')!r} is unknown; known: {', '.join(PLATFORMS)}",
            state="nothing was started",
            next_step=f"set `target` in {path}",
        )
    kind = platform.load_settings()
    _refuse_variables_of_the_policy(name, path)
    for key in kind.model_fields.keys() - {"name", "target", *policy.KEYS}:
        if (value := os.environ.get(variable(name, key))) is not None:
            values[key] = value
    try:
        environment = kind.model_validate({**values, "name": name})
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, issue['loc']))}: {issue['msg']}" for issue in error.errors()
        )
        allowed = ", ".join(sorted(kind.model_fields.keys() - {"name"}))
        raise ConfigurationError(
            f"{path}: {problems}; allowed keys: {allowed}",
            state="nothing was started",
            next_step=f"fix {path} (or a variable {variable(name, '*')})",
        ) from error
    if environment.promote_from and environment.promote_from not in names:
        raise ConfigurationError(
            f"{path}: promote_from = {environment.promote_from!r} is no environment;"
            f" known: {', '.join(names)}",
            state="nothing was started",
            next_step=f"set `promote_from` in {path} to one of them, or remove it",
        )
    return environment


def _refuse_variables_of_the_policy(name: str, path: Path) -> None:
    for key in sorted(policy.KEYS):
        if (set_here := variable(name, key)) in os.environ:
            raise ConfigurationError(
                f"variable {set_here} is set, but `{key}` belongs to the policy of {name}, which"
                " is read from its file alone",
                state="nothing was started",
                next_step=f"unset {set_here}, and set `{key}` in {path}",
            )


def gate_rules(environment: Environment) -> TrustedRules:
    """Return where the gate of an environment finds its rules: the deploying side's files."""
    return TrustedRules(
        environment.name,
        environment.gate_rules,
        FOLDER.parents[1] / "params.yaml",
        is_required=environment.gate == "required",
    )


def make_target(environment: Environment) -> AnyTarget:
    """Make the target of an environment, with the client of its platform.

    Raises:
        ConfigurationError: This host lacks the variables by which the platform is reached.
    """
    try:
        return PLATFORMS[environment.target].load_target()(environment)
    except ValidationError as error:
        names = ", ".join(f"SLIPWAY_{issue['loc'][0]}".upper() for issue in error.errors())
        raise ConfigurationError(
            f"environment {environment.name} is on another host: this host lacks {names}",
            state="nothing was started",
            next_step="use a worker on its host, where these variables are set, see `slipway up`",
        ) from None
