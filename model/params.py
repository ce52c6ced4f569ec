"""The schema of params.yaml, and the one way in which a stage is run.

A mistake in params.yaml, or data that does not fit it, is a `ConfigError`. A stage then prints one
message on stderr, each line of which starts with `params.yaml: <key>: `, and exits with code 2:
running it again is pointless until somebody edits the file. Any other failure exits with code 1.

`python -m model.check` checks the file and all of the data, and writes nothing.
"""

import difflib
import sys
import traceback
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from pydantic.v1 import Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from model.metric_names import find_directions, find_repeated, get_metric_name
from model.sections import Data, Gate, MetricRule, Save, Section, Train

FILE = Path("params.yaml")
CONFIG_ERROR = 2  # exit code
ADD_PYARROW = "add it: uv add --project model --group custom pyarrow"


class ConfigError(Exception):
    """params.yaml is wrong, or the data does not fit it."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{FILE}: {key}: {problem}" if key else f"{FILE}: {problem}")


class Params(Section):
    """All of params.yaml."""

    # At most 40 characters, since it becomes part of tags, host names and container names.
    name: str = Field(regex=r"^[a-z][a-z0-9-]{0,38}[a-z0-9]$")
    seed: int = Field(ge=0, lt=2**32)
    data: Data
    train: Train
    save: Save
    gate: Gate


def load() -> Params:
    """Read and check params.yaml in the working directory, as far as that needs no data.

    Returns:
        The parameters, defaults filled in.

    Raises:
        ConfigError: naming every key that is missing, unknown or has an impossible value.
    """
    raw = _read()
    try:
        params = Params.parse_obj(raw)
    except ValidationError as error:
        lines = [str(ConfigError(*_explain(e, raw))) for e in error.errors()]
        raise ConfigError("", "\n".join(lines).removeprefix(f"{FILE}: ")) from None
    _check_name(params.name)
    _check_metrics(params)
    # Before anything is trained, though the model is saved last.
    if params.save.arrow and find_spec("pyarrow") is None:
        problem = f"the model environment has no pyarrow; {ADD_PYARROW}"
        raise ConfigError("save.arrow", problem)
    return params


def run(stage: Callable[[Params], None]) -> NoReturn:
    """Run a stage as a program: exit with 0, or with 2 after explaining a ConfigError on stderr."""
    is_private = True  # until params.yaml is known
    try:
        params = load()
        is_private = bool(params.data.private)
        stage(params)
    except ConfigError as error:
        print(error, file=sys.stderr)
        sys.exit(CONFIG_ERROR)
    except Exception as error:
        if not is_private:
            raise
        print(explain_without_values(error), file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


def explain_without_values(error: BaseException) -> str:
    """Explain an error by its type and places, without its message, which may quote a cell.

    The log of a stage is read by more people than the data.
    """
    frames = "".join(traceback.format_tb(error.__traceback__))
    hint = "the message is left out, since data.private is set: run the stage without it to see it"
    return f"{frames}{type(error).__name__} ({hint})"


def suggest(wrong: str, allowed: Iterable[str]) -> str:
    """Suggest allowed values in place of a wrong one: `; did you mean 'cv'? Allowed: cv, grid`."""
    allowed = sorted(allowed)
    return f"{suggest_nearest(wrong, allowed) or '.'} Allowed: {', '.join(allowed)}"


def suggest_nearest(wrong: str, allowed: Iterable[str]) -> str:
    """Suggest the nearest allowed value: `; did you mean 'x'?`, or nothing if none is near."""
    matches = difflib.get_close_matches(wrong, list(allowed), n=1)
    return f"; did you mean '{matches[0]}'?" if matches else ""


def _read() -> Any:
    try:
        text = FILE.read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise ConfigError("", f"cannot be read as UTF-8 text: {error}") from None
    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark else "the file"
        raise ConfigError(where, getattr(error, "problem", None) or str(error)) from None


def _explain(error: Any, raw: Any) -> tuple[str, str]:
    """Explain one of pydantic's errors by the key and the problem in params.yaml."""
    loc = [part for part in error["loc"] if part != "__root__"]
    key = ".".join(map(str, loc))
    if error["type"] == "value_error.extra":
        section: Any = Params
        for part in loc[:-1]:
            fields = {field.alias: field for field in section.__fields__.values()}
            if part in fields:  # or the name of a column, in data.schema
                section = fields[part].type_
        allowed = [field.alias for field in section.__fields__.values()]
        return key, f"unknown key{suggest(str(loc[-1]), allowed)}"
    if error["type"] == "value_error.missing":
        return key, "missing"
    value = raw
    for part in loc:
        value = value[part]
    problem = f"{error['msg']}, not {value!r}"
    permitted = error.get("ctx", {}).get("permitted")
    return key, problem + (suggest_nearest(str(value), permitted) if permitted else "")


def _check_name(name: str) -> None:
    here = Path("model")
    if here.joinpath(f"{name}.py").exists() or here.joinpath(name).is_dir():
        raise ConfigError("name", f"model/ already has something called '{name}': choose another")


def _check_metrics(params: Params) -> None:
    task, scorers = params.data.task, params.train.metrics
    if (repeated := find_repeated(task, scorers)) is not None:
        problem = f"'{get_metric_name(scorers[repeated])}' is measured already: leave it out"
        raise ConfigError(f"train.metrics[{repeated}]", problem)
    metrics = find_directions(task, scorers)
    _check_rule("gate", params.gate, metrics, task)
    if params.gate.calibration is not None and task != "classification":
        raise ConfigError("gate.calibration", "only a classification has probabilities")
    for at, rule in enumerate(params.gate.also):
        _check_rule(f"gate.also.{at}", rule, metrics, task)


def _check_rule(key: str, rule: MetricRule, metrics: dict[str, bool], task: str) -> None:
    if rule.metric not in metrics:
        problem = f"'{rule.metric}' is not measured for {task}{suggest(rule.metric, metrics)}"
        raise ConfigError(f"{key}.metric", f"{problem}; train.metrics adds scorers to these")
    bound, other = ("minimum", "maximum") if metrics[rule.metric] else ("maximum", "minimum")
    if getattr(rule, other) is not None:
        better = "more" if metrics[rule.metric] else "less"
        raise ConfigError(
            f"{key}.{other}", f"{better} of {rule.metric} is better: give {key}.{bound} instead"
        )
