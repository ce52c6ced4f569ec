"""Bring the data to data/raw.csv: UTF-8, commas, one header line; values as they were, as text."""

import codecs
import csv
import gzip
import io
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from sklearn import datasets

from model import estimators
from model.files import RAW
from model.params import ConfigError, Data, Params, run, suggest, suggest_nearest

BUNDLED = {
    f"sklearn.datasets.{name}": getattr(datasets, name)
    for name in ("load_breast_cancer", "load_diabetes", "load_digits", "load_iris", "load_wine")
}
SOURCE = Path("data/source")
SEPARATORS = ",;\t|"
UTF_8 = {"utf-8", "utf8", "utf_8"}
UNDEFINED_IN_CP1252 = {0x81, 0x8D, 0x8F, 0x90, 0x9D}


def main(params: Params) -> None:
    """Write data/raw.csv.

    Args:
        params: `data`; all else is checked against the data's columns.

    Raises:
        ConfigError: params.yaml is wrong, or the file is missing or not such a CSV file.
    """
    estimators.build(params)
    part = RAW.with_suffix(".part")
    RAW.parent.mkdir(exist_ok=True)
    try:
        write_table(params, part)
        part.replace(RAW)
    finally:
        part.unlink(missing_ok=True)


def write_table(params: Params, path: Path) -> None:
    """Write the data as `main` does, to any path; arguments and errors are those of `main`."""
    rows = _read_rows(params)
    columns = name_columns(next(rows))
    _check_columns(params, columns)
    has_rows = False
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow(row)
            has_rows = True
    if not has_rows:
        raise ConfigError("data.source", f"{params.data.source} has a header, but no rows")


def name_columns(header: list[str]) -> list[str]:
    """Name columns without a name by their position, as pandas does: `Unnamed: 0`."""
    return [name if name.strip() else f"Unnamed: {at}" for at, name in enumerate(header)]


def _read_rows(params: Params) -> Iterator[list[Any]]:
    """Yield the header, then the rows."""
    source = params.data.source
    if source in BUNDLED:
        frame = BUNDLED[source](as_frame=True).frame
        yield list(frame.columns)
        yield from frame.itertuples(index=False, name=None)
        return
    path = Path(source)
    if not path.is_file():
        files = [str(p) for p in sorted(SOURCE.glob("*")) if p.suffix not in (".dvc", ".md", "")]
        problem = f"no such file or bundled data set: '{source}'"
        raise ConfigError("data.source", problem + suggest(source, [*BUNDLED, *files]))
    if SOURCE.resolve() not in path.resolve().parents:
        raise ConfigError("data.source", f"'{source}' is not under {SOURCE}/, which DVC watches")
    yield from _read_csv_rows(path, params.data)


def _read_csv_rows(path: Path, data: Data) -> Iterator[list[str]]:
    width = 0
    encoding = "utf-8-sig" if data.encoding.lower() in UTF_8 else data.encoding
    with _open(path) as raw, io.TextIOWrapper(raw, encoding=encoding, newline="") as file:
        reader = csv.reader(file, delimiter=data.separator, strict=True)
        try:
            for row in reader:
                width = width or len(row)
                if row and len(row) != width:
                    problem = f"{path}, line {reader.line_num}: {len(row)} values, not {width}"
                    raise ConfigError("data.source", problem)
                if row:
                    yield row
        except UnicodeError:
            raise ConfigError("data.encoding", _explain_encoding(path, data.encoding)) from None
        except csv.Error as error:
            problem = f"{path}, line {reader.line_num}: {error}"
            if separator := _guess_separator(path, data):
                problem += f"; is it '{separator}'?"
            key = "data.separator" if separator else "data.source"
            raise ConfigError(key, problem) from None
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ConfigError("data.source", f"{path} cannot be unpacked: {error}") from None
    if not width:
        raise ConfigError("data.source", f"{path} is empty")


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _explain_encoding(path: Path, encoding: str) -> str:
    """Name the first line that cannot be decoded, and an encoding that can."""
    with _open(path) as file:
        start = file.read(len(codecs.BOM_UTF16_LE))
    if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return f"{path} is not {encoding} text; is it 'utf-16'?"
    with _open(path) as file:
        lines = ((at, line) for at, line in enumerate(file, 1) if not _can_decode(line, encoding))
        number, line = next(lines, (1, b""))
    # Windows' encoding of Western Europe leaves five bytes undefined, ISO's defines them all.
    guess = "latin-1" if UNDEFINED_IN_CP1252 & set(line) else "cp1252"
    if encoding.lower() in {guess, "utf-16"}:
        guess = "utf-8"
    return f"{path}, line {number} is not {encoding} text; is it '{guess}'?"


def _can_decode(line: bytes, encoding: str) -> bool:
    try:
        line.decode(encoding)
    except UnicodeError:
        return False
    return True


def _guess_separator(path: Path, data: Data) -> str | None:
    """Guess a separator that the first line has more of than of the one that is set."""
    with _open(path) as file:
        header = file.readline().decode(data.encoding, "replace")
    best = max(SEPARATORS, key=header.count)
    return best if header.count(best) > header.count(data.separator) else None


def _check_columns(params: Params, columns: list[str]) -> None:
    source = params.data.source
    duplicates = [column for column, count in Counter(columns).items() if count > 1]
    if duplicates:
        raise ConfigError("data.source", f"{source}: two columns are called '{duplicates[0]}'")
    data = params.data
    for key, names in [("target", [data.target]), ("drop", data.drop), ("private", data.private)]:
        for column in names:
            if column not in columns:
                hint = "; is data.separator right?" if len(columns) == 1 else ""
                hint = hint or suggest_nearest(column, columns) or "."
                problem = f"'{column}' is not a column of {source}{hint}"
                raise ConfigError(f"data.{key}", f"{problem} Columns: {', '.join(columns)}")
    if data.target in data.private:
        problem = f"'{data.target}' is the target, which the model answers to everybody"
        raise ConfigError("data.private", problem)
    if data.target in data.drop:
        raise ConfigError("data.drop", f"'{data.target}' is the target")
    if len(columns) - len(set(data.drop)) < 2:
        raise ConfigError("data.drop", "no column is left to learn from")


if __name__ == "__main__":
    run(main)
