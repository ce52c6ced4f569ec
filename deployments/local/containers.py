"""What a deploy to containers on this host needs, asked for before anything is trained."""

from __future__ import annotations

import subprocess

from tasks.environments import DockerEnvironment, load_environment
from tasks.images.base import read_base
from tasks.images.reference import parse_reference
from tasks.images.registry import Repository
from tasks.settings import CHECKOUT
from tasks.targets.engine import Engine


def require_engine(environment: str) -> str:
    """Make sure that a container engine is there.

    Args:
        environment: Name of an environment whose target is `docker`.

    Returns:
        Its version.

    Raises:
        TransientError: None answers.
    """
    return Engine(_settings(environment).engine).version()


def require_base(environment: str) -> None:
    """Make sure that the base image is there, for the Python that models are trained with.

    One that asks for a login is left to the deploy, which reads it from its block.

    Args:
        environment: Name of an environment whose target is `docker`.

    Raises:
        ConfigurationError: There is no such image, or it is for other platforms.
        TransientError: Its registry does not answer.
    """
    settings = _settings(environment)
    if settings.registry_block:
        return
    base = parse_reference(settings.base.replace("{python}", _python_of_models()))
    for platform in settings.platforms:
        read_base(Repository(base), base, platform)


def _settings(environment: str) -> DockerEnvironment:
    settings = load_environment(environment)
    assert isinstance(settings, DockerEnvironment)
    return settings


def _python_of_models() -> str:
    told = subprocess.run(
        [str(CHECKOUT / "model" / ".venv" / "bin" / "python"), "-c",
         "import sys; print('{}.{}'.format(*sys.version_info))"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return told.stdout.strip()
