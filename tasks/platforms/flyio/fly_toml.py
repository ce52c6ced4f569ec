"""`fly.toml`, flyctl's file: a source of keys that the environment's own file lacks."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_AUTO_STOP = {True: "stop", False: "off"}  # as older files say it


def read_fly_toml(path: Path, *, named: bool) -> dict[str, Any]:
    """Read what is of use for an environment.

    Args:
        named: Whether somebody has named it: then it has to be there, else there is nothing to
            honour without one.

    Returns:
        Keys of `FlyioEnvironment` with their values.

    Raises:
        ValueError: The file is not TOML, or not there.
    """
    if not path.is_file():
        if named:
            raise ValueError(f"fly_toml: there is no file {path}")
        return {}
    try:
        return settings_of(tomllib.loads(path.read_text()))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: {error}") from error


def settings_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Name what a `fly.toml` says as an environment's file does.

    Returns:
        Keys of `FlyioEnvironment` with their values.
    """
    service = document.get("http_service", {})
    machine: Mapping[str, Any] = next((vm for vm in document.get("vm", []) if _is_for_app(vm)), {})
    auto_stop = service.get("auto_stop_machines")
    settings = {
        "app": document.get("app"),
        "region": document.get("primary_region"),
        "internal_port": service.get("internal_port"),
        "auto_stop": _AUTO_STOP.get(auto_stop, auto_stop),
        "min_machines_running": service.get("min_machines_running"),
        "size": _size(machine),
        "memory": _memory(machine),
    }
    return {key: value for key, value in settings.items() if value is not None}


def _is_for_app(machine: Mapping[str, Any]) -> bool:
    return "app" in machine.get("processes", ["app"])


def _size(machine: Mapping[str, Any]) -> str | None:
    if "cpu_kind" not in machine and "cpus" not in machine:
        return machine.get("size")
    kind = "performance" if machine.get("cpu_kind") == "performance" else "shared-cpu"
    return f"{kind}-{machine.get('cpus', 1)}x"


def _memory(machine: Mapping[str, Any]) -> str | None:
    amount = machine.get("memory", machine.get("memory_mb"))
    return f"{amount}mb" if str(amount).isdecimal() else amount
