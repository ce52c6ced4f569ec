"""Reading an environment: its file, and the variables that win over it."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tasks.core.errors import ConfigurationError
from tasks.core.settings import CHECKOUT
from tasks.platforms.base.settings import Environment
from tasks.platforms.docker.settings import DockerEnvironment
from tasks.platforms.flyio.settings import FlyioEnvironment
from tasks.platforms.heroku.settings import HerokuEnvironment
from tasks.platforms.kubernetes.settings import KubernetesEnvironment
from tasks.platforms.process.settings import ProcessEnvironment
from tasks.platforms.sagemaker.settings import SageMakerEnvironment

FOLDER = CHECKOUT / "deployments" / "environments"

_KINDS: dict[str, type[Environment]] = {
    "docker": DockerEnvironment,
    "flyio": FlyioEnvironment,
    "heroku": HerokuEnvironment,
    "kubernetes": KubernetesEnvironment,
    "process": ProcessEnvironment,
    "sagemaker": SageMakerEnvironment,
}


def environment_names(folder: Path = FOLDER) -> list[str]:
    """The names that `load_environment` accepts, sorted."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def variable(name: str, key: str) -> str:
    """The variable that wins over a key of an environment's file."""
    return f"SLIPWAY_{name.upper().replace('-', '_')}_{key.upper()}"


def load_environment(name: str, folder: Path = FOLDER) -> Environment:
    """Read and check one environment; a variable `SLIPWAY_<NAME>_<KEY>` wins over the file.

    Args:
        name: Name of the environment.
        folder: Where the files are.

    Returns:
        The settings, of the class that belongs to its target.

    Raises:
        ConfigurationError: No such environment, or a key that is unknown or has a wrong value.
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
            f"{path}: {error}", state="nothing was started", next_step=f"mend {path}"
        ) from error
    kind = _KINDS.get(values.get("target", ""))
    if kind is None:
        raise ConfigurationError(
            f"{path}: target = {values.get('target')!r} is unknown; known: {', '.join(_KINDS)}",
            state="nothing was started",
            next_step=f"set `target` in {path}",
        )
    for key in kind.model_fields.keys() - {"name", "target"}:
        if (value := os.environ.get(variable(name, key))) is not None:
            values[key] = value
    try:
        return kind.model_validate({**values, "name": name})
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, issue['loc']))}: {issue['msg']}" for issue in error.errors()
        )
        allowed = ", ".join(sorted(kind.model_fields.keys() - {"name"}))
        raise ConfigurationError(
            f"{path}: {problems}; allowed keys: {allowed}",
            state="nothing was started",
            next_step=f"mend {path} (or a variable {variable(name, '*')})",
        ) from error
