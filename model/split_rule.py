"""The rule of `data.split`, as params.yaml writes it."""

from typing import Any, Literal, NamedTuple, get_args

Kind = Literal["stable", "random", "time", "group", "file"]


class SplitRule(NamedTuple):
    """The rule by which rows are tested on.

    Attributes:
        kind: `stable`: a hash of a row's key, or of its content. `random`: the seed, by class.
            `time`: the latest rows. `group`: the seed, by group. `file`: a file of test rows.
        columns: the key, the time or the group; none if the content of a row is its key.
        file: the file of test rows.
    """

    kind: Kind
    columns: tuple[str, ...] = ()
    file: str = ""


def parse_rule(value: Any) -> SplitRule:
    """Parse `stable`, `random`, `{stable: [columns]}`, `{time: column}` and so on.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(value, SplitRule):
        return value
    allowed = ", ".join(get_args(Kind))
    rule = {value: None} if isinstance(value, str) else value
    kinds = [kind for kind in get_args(Kind) if isinstance(rule, dict) and kind in rule]
    if len(kinds) != 1 or len(rule) != 1:
        raise ValueError(f"name one of {allowed}, as in `split: stable` or `split: {{time: sold}}`")
    kind: Kind = kinds[0]
    argument = rule[kind]
    if kind == "file":
        if not isinstance(argument, str) or not argument:
            raise ValueError("name the file of test rows: `split: {file: data/source/test.csv}`")
        return SplitRule(kind, file=argument)
    listed = argument if isinstance(argument, list) else [] if argument is None else [argument]
    columns = tuple(map(str, listed))
    if kind == "random" and columns:
        raise ValueError("a random split has no columns")
    if kind == "group" and not columns:
        raise ValueError("name the column of groups: `split: {group: customer}`")
    if kind == "time" and len(columns) != 1:
        raise ValueError("name the column of times: `split: {time: sold}`")
    return SplitRule(kind, columns)
