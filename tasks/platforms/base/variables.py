"""Variables of an environment: limits of the model server, and values for code of a model.

Plain values are in the environment's file, secret ones in Prefect Secret blocks that it names. All
steps of a deploy use the values that the first of them has read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, SecretStr

from tasks.core.errors import ConfigurationError
from tasks.core.secret_blocks import renewal

LIMITS = "SLIPWAY_SERVING_"
# `serving/settings.py` says why they are not below that prefix.
LATER_LIMITS = frozenset({"SLIPWAY_BATCH_ROWS"})
WORKERS = "SLIPWAY_WORKERS"  # the key `workers` sets it
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What the server and its image are started with; another value would break them.
_RESERVED = frozenset({"HOME", "PATH", "PORT"})
_RESERVED_PREFIXES = ("SLIPWAY_", "PYTHON", "PREFECT__")


def _read_table(value: object) -> object:
    """Read a table that a variable holds as JSON, and numbers as the text that servers get."""
    table = json.loads(value) if isinstance(value, str) else value
    if not isinstance(table, Mapping):
        return table
    return {name: _text(content) for name, content in table.items()}


def _text(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


def _check_names(table: Mapping[str, str]) -> Mapping[str, str]:
    for name, value in table.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a valid name of a variable")
        limit = name.startswith(LIMITS) or name in LATER_LIMITS
        if name in _RESERVED or (name.startswith(_RESERVED_PREFIXES) and not limit):
            raise ValueError(f"{name} is reserved: Slipway sets it")
        if "\0" in value:
            raise ValueError(f"{name} has a null character")
    return table


# A table of variables in an environment's file.
Table = Annotated[dict[str, str], BeforeValidator(_read_table), AfterValidator(_check_names)]


@dataclass(frozen=True)
class Variables:
    """The variables that a server is started with.

    Attributes:
        plain: Those that everybody may read.
        secret: Those that only the server may read.
    """

    plain: Mapping[str, str] = field(default_factory=dict)
    secret: Mapping[str, SecretStr] = field(default_factory=dict)

    def reveal(self) -> dict[str, str]:
        """Return all of them in clear, for the environment of a server."""
        return {**self.plain, **self.reveal_secret()}

    def reveal_secret(self) -> dict[str, str]:
        """Return the secret ones in clear."""
        return {name: value.get_secret_value() for name, value in self.secret.items()}


class VariableReader:
    """Reads the variables of an environment, once.

    Args:
        environment: Name of the environment.
        plain: Values by name.
        blocks: Name of the Secret block by name of the variable.
    """

    def __init__(
        self, environment: str, plain: Mapping[str, str], blocks: Mapping[str, str]
    ) -> None:
        self._environment = environment
        self._plain = plain
        self._blocks = blocks
        self._variables: Variables | None = None

    async def read(self) -> Variables:
        """Return the variables.

        Raises:
            ConfigurationError: A block does not exist, or holds no text.
            TransientError: The Prefect server does not answer.
        """
        if self._variables is None:
            secret = {name: await self._secret(name) for name in self._blocks}
            self._variables = Variables(self._plain, secret)
        return self._variables

    async def check(self) -> list[str]:
        """Prove that the variables can be read; name them in a finding, if there are any."""
        names = sorted((await self.read()).reveal())
        return [f"the model server gets the variables {', '.join(names)}"] if names else []

    async def _secret(self, name: str) -> SecretStr:
        # It imports Prefect, which commands that only read settings do without.
        from tasks.runs.secrets import read_secret

        block = self._blocks[name]
        content: Any = await read_secret(block)
        if not isinstance(content, str) or not content or "\0" in content:
            raise ConfigurationError(
                f"variable {name} of environment {self._environment}: block secret/{block} does"
                " not hold a text",
                state="nothing was changed",
                next_step=renewal(block),
            )
        return SecretStr(content)
