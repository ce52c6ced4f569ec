"""A new environment: its file, with every key of its platform and the default of each."""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from tasks.core.errors import ConfigurationError
from tasks.platforms.base.policy import Policy
from tasks.platforms.catalogue import PLATFORMS, environment_names, variable

if TYPE_CHECKING:
    from tasks.platforms.base.settings import Environment

# The name becomes part of file names, names of variables, and names on platforms.
_NAME = re.compile(r"[a-z][a-z0-9-]{0,28}[a-z0-9]")
_WIDTH = 100
# Values of keys without a default, for the user to replace; of a platform's own key first.
_PLACEHOLDERS = {
    "app": "slipway-{name}",
    "flyio.region": "ams",
    "organization": "personal",
    "region": "us-east-1",
    "repository": "ghcr.io/you/model",
    "sagemaker.repository": "123456789012.dkr.ecr.us-east-1.amazonaws.com/model",
    "role": "arn:aws:iam::123456789012:role/slipway-sagemaker",
    "url": "https://model.example.com",
}
_SECTION = re.compile(r"Attributes:\n(.*?)(?:\n\S|\Z)", re.DOTALL)
_ATTRIBUTE = re.compile(r"^(\w+): (.*(?:\n +.*)*)", re.MULTILINE)


def write_environment(name: str, target: str, folder: Path) -> Path:
    """Write the file of a new environment.

    Args:
        name: Name of the environment.
        target: Name of its platform.
        folder: Folder of the environments.

    Returns:
        The file.

    Raises:
        ConfigurationError: The name is invalid or taken, or the platform is unknown.
    """
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"invalid name of an environment: {name!r}",
            state="no file was written",
            next_step="use 2 to 30 lower-case letters, digits and hyphens, a letter first",
        )
    if name in environment_names(folder):
        raise ConfigurationError(
            f"environment {name!r} exists already",
            state="its file is unchanged",
            next_step=f"edit {folder / name}.toml, or choose another name",
        )
    if target not in PLATFORMS:
        raise ConfigurationError(
            f"unknown target {target!r}; known: {', '.join(PLATFORMS)}",
            state="no file was written",
            next_step=f"slipway new environment {name} --target {next(iter(PLATFORMS))}",
        )
    text = "\n".join(_lines(name, target, PLATFORMS[target].load_settings())) + "\n"
    path = folder / f"{name}.toml"
    with path.open("x") as file:
        file.write(text)
    return path


def _lines(name: str, target: str, settings: type[Environment]) -> Iterator[str]:
    yield f"# The environment `{name}`, of target `{target}`: see docs/targets/{target}.md."
    yield "# A key after a # has the value shown; remove the # to change it. A variable overrides a"
    yield f"# key, for instance {variable(name, 'keep')}; but not these, see docs/policy.md:"
    yield f"# {', '.join(Policy.model_fields)}."
    yield f"target = {json.dumps(target)}"
    descriptions = _descriptions(settings)
    required = _required(name, target, settings)
    effective = settings.model_validate({"name": name, "target": target, **required}).model_dump()
    # Keys without a default first: they are what has to be edited.
    others = [key for key in settings.model_fields if key not in {"name", "target", *required}]
    for key in [*required, *others]:
        yield ""
        yield from textwrap.wrap(
            descriptions.get(key, ""), _WIDTH, initial_indent="# ", subsequent_indent="# "
        )
        if key in required:
            yield f"{key} = {json.dumps(required[key])}"
        else:
            default = settings.model_fields[key].get_default(call_default_factory=True)
            # A key that the platform fills in from others has no default to show.
            yield f"# {key} = {_toml(default if default == effective.get(key) else None)}"


def _required(name: str, target: str, settings: type[Environment]) -> dict[str, str]:
    """Return placeholders for the keys without which the settings are refused.

    One after the other, for a platform fills in some of its keys from others.
    """
    values: dict[str, str] = {}
    while True:
        try:
            settings.model_validate({"name": name, "target": target, **values})
        except ValidationError as error:
            missing = [issue["loc"][0] for issue in error.errors() if issue["type"] == "missing"]
            if not missing:
                raise ConfigurationError(
                    f"invalid name of an environment of target {target}: {name!r}:"
                    f" {error.errors()[0]['msg']}",
                    state="no file was written",
                    next_step="choose a shorter name",
                ) from None
            # A platform's own keys first: those of its base classes may follow from them.
            key = str(min(missing, key=lambda key: key not in settings.__annotations__))
            placeholder = _PLACEHOLDERS.get(f"{target}.{key}") or _PLACEHOLDERS.get(
                key, f"your-{key}"
            )
            values[key] = placeholder.format(name=name)
        else:
            return values


def _toml(value: Any) -> str:
    """Return a default as TOML: a text, number, boolean or list; `…` for one that is not set."""
    if value is None:
        return "…"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)


def _descriptions(settings: type[Environment]) -> dict[str, str]:
    """Return what the docstrings of a settings class and its bases say of each key."""
    descriptions: dict[str, str] = {}
    for base in reversed(settings.__mro__):
        if section := _SECTION.search(inspect.getdoc(base) or ""):
            for key, text in _ATTRIBUTE.findall(textwrap.dedent(section[1])):
                descriptions[key] = " ".join(text.split())
    return descriptions
