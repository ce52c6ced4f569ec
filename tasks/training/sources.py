"""The source of the data: an address that DVC imports from, or the query of a database."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from tasks.core.errors import ConfigurationError
from tasks.core.fast_yaml import read_yaml

FOLDER = Path("data/source")
UNCHANGED = "nothing was trained; origin is unchanged"
# All that DVC writes into the record of an import. Others, such as `cmd`, `wdir` and `fs_config`,
# would have DVC run a program, write elsewhere, or send credentials to another server.
_RECORD = {"md5", "frozen", "deps", "outs", "desc", "meta"}
_DEPENDENCY = {"md5", "size", "nfiles", "hash", "path", "etag", "checksum", "mtime", "files"}


@dataclass(frozen=True)
class Source:
    """The file or folder of `data.source`, and where its content comes from.

    Attributes:
        folder: The repository's folder.
        path: The file or folder with the data, relative to it.
        record: The `.dvc` file that covers it, which may not be there yet.
        address: The address that DVC has imported it from; empty for none.
        database: Name of the database whose query it is the result of; empty for none.
    """

    folder: Path
    path: Path
    record: Path
    address: str
    database: str

    @property
    def has_origin(self) -> bool:
        """True if the data come from somewhere else, so that they can be refreshed."""
        return bool(self.address or self.database)

    @property
    def query(self) -> Path:
        """The file with the SQL query, beside the result."""
        return self.path.with_suffix(".sql")

    @property
    def output(self) -> Path:
        """The file or folder of the record: the data, or a folder above them."""
        return self.record.with_suffix("")

    @property
    def digest(self) -> str:
        """The hash of the data that is recorded; empty if there is no record."""
        content = _read_record(self.folder / self.record)
        return str(content["outs"][0].get("md5", "")) if content.get("outs") else ""


def find_source(folder: Path, parameters: Mapping[str, Any]) -> Source | None:
    """Find the source of the data; None if `data.source` is not a file or folder of `data/source/`.

    Args:
        folder: The repository's folder.
        parameters: Content of its `params.yaml`.

    Raises:
        ConfigurationError: The record of an import has what DVC does not write there, or the data
            are of another repository.
    """
    data = _read_section(parameters)
    path = _find_path(data)
    if path is None:
        return None
    record = _find_record(folder, path)
    require_own_data(folder, parameters)
    address = _read_address(record, _read_record(folder / record))
    return Source(folder, path, record, address, str(data.get("database") or ""))


def require_own_data(folder: Path, parameters: Mapping[str, Any]) -> None:
    """Refuse data that `dvc import` has brought from another Git repository.

    That repository stores them. To ask it, DVC clones it from whatever address the record names,
    and follows the configuration that it finds there; with the worker's keys at hand, nobody may
    choose either by a commit. In the sandbox, where there are no keys, there is no network.

    Args:
        folder: The repository's folder.
        parameters: Content of its `params.yaml`.

    Raises:
        ConfigurationError: They are such data.
    """
    path = _find_path(_read_section(parameters))
    if path is None:
        return
    record = _find_record(folder, path)
    if any("repo" in dependency for dependency in _read_record(folder / record).get("deps", [])):
        raise ConfigurationError(
            f"{record} was made by `dvc import`: its data are in another Git repository, which runs"
            " do not clone",
            state=UNCHANGED,
            next_step="import the file from where it is stored, `dvc import-url`; or copy it:"
            " `dvc get`, then `dvc add`; commit the record",
        )


def _read_section(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    data = parameters.get("data")
    return data if isinstance(data, Mapping) else {}


def _find_path(data: Mapping[str, Any]) -> Path | None:
    path = Path(os.path.normpath(str(data.get("source"))))
    return path if path.is_relative_to(FOLDER) and path != FOLDER else None


def _find_record(folder: Path, path: Path) -> Path:
    places = [place for place in (path, *path.parents) if place.is_relative_to(FOLDER)]
    records = [place.with_name(f"{place.name}.dvc") for place in places]
    return next((record for record in records if (folder / record).is_file()), records[0])


def _read_record(path: Path) -> dict[str, Any]:
    try:
        content = read_yaml(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, yaml.YAMLError) as error:
        raise _refuse_record(path.name, str(error)) from error
    return content if isinstance(content, dict) else {}


def _read_address(record: Path, content: Mapping[str, Any]) -> str:
    dependencies = content.get("deps", [])
    if not dependencies:
        return ""
    (dependency, *others), outputs = dependencies, content.get("outs", [])
    unknown = {*content} - _RECORD or {*dependency} - _DEPENDENCY
    if others or unknown or [out["path"] for out in outputs] != [record.stem]:
        keys = f"it has the keys {', '.join(sorted(unknown))}" if unknown else ""
        problem = keys or "it names more than one file"
        raise _refuse_record(record.as_posix(), problem)
    return str(dependency["path"])


def _refuse_record(record: str, problem: str) -> ConfigurationError:
    return ConfigurationError(
        f"{record} is not the record of one import by DVC: {problem}",
        state=UNCHANGED,
        next_step="import the data again with `dvc import-url`, and commit",
    )


def is_allowed(address: str, allowed: str) -> bool:
    """Check that a worker may refresh data from an address: it is listed, or below one that is.

    Args:
        address: URL, or absolute path.
        allowed: Addresses, separated by commas.
    """
    parts = unquote(urlsplit(address).path).split("/")
    if ".." in parts or "\\" in address:
        return False
    places = [place.strip().rstrip("/") for place in allowed.split(",")]
    return any(place and f"{address}/".startswith(f"{place}/") for place in places)
