"""What a Prefect server should have of us, and whether it has it."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path

from ruamel.yaml import YAML

from deployments import blocks
from deployments.api import PrefectAPI
from deployments.blocks import ObjectStorage

# On the server and not in a file, so it cannot outlive the database that it speaks of.
_VARIABLE = "slipway_registered"


def expected_deployments(checkout: Path) -> set[str]:
    """The deployments that `prefect.yaml` declares.

    Args:
        checkout: The folder that it is in.

    Returns:
        Their names, as `flow/deployment`.
    """
    declared = YAML(typ="safe").load(checkout / "prefect.yaml")["deployments"]
    return {f"{each['entrypoint'].rpartition(':')[2]}/{each['name']}" for each in declared}


def digest(checkout: Path, storage: ObjectStorage) -> str:
    """Everything that registering depends on, as one short text.

    Args:
        checkout: The folder of `prefect.yaml` and the flows.
        storage: What the blocks hold.

    Returns:
        A digest that tells nothing about the secrets in it.
    """
    files = [checkout / "prefect.yaml", Path(blocks.__file__), *checkout.glob("flows/**/*.py")]
    parts = [f"{path.name}\n{path.read_text()}" for path in sorted(files)]
    parts += [f"{key}={value}" for key, value in sorted(storage.to_environment().items())]
    parts.append(version("prefect"))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def is_registered(api: PrefectAPI, checkout: Path, storage: ObjectStorage) -> bool:
    """Whether the server has what it should, so that nothing is to be done.

    Args:
        api: The server.
        checkout: The folder of `prefect.yaml` and the flows.
        storage: What the blocks should hold.

    Returns:
        True if it was registered from the same inputs and nobody deleted any of it since.
    """
    return (
        api.variable(_VARIABLE) == digest(checkout, storage)
        and expected_deployments(checkout) <= api.deployments()
        and api.blocks() >= blocks.NAMES
    )


def mark_registered(api: PrefectAPI, checkout: Path, storage: ObjectStorage) -> None:
    """Note on the server that it has everything.

    Args:
        api: The server.
        checkout: The folder of `prefect.yaml` and the flows.
        storage: What the blocks hold.
    """
    api.set_variable(_VARIABLE, digest(checkout, storage))
