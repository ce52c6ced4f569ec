"""Read data from where they are, as rows of text: CSV, Parquet, folders, scikit-learn's."""

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from sklearn import datasets

from model.params import ADD_PYARROW, ConfigError, suggest
from model.sections import Data

BUNDLED = {
    f"sklearn.datasets.{name}": getattr(datasets, name)
    for name in ("load_breast_cancer", "load_diabetes", "load_digits", "load_iris", "load_wine")
}
SOURCE = Path("data/source")
CSV, PARQUET = (".csv", ".csv.gz"), (".parquet",)
SEPARATORS = ",;\t|"
UTF_8 = {"utf-8", "utf8", "utf_8"}
TOO_LONG = "field larger"  # how Python's module for CSV begins its message
UNDEFINED_IN_CP1252 = {0x81, 0x8D, 0x8F, 0x90, 0x9D}


def read_rows(data: Data) -> Iterator[list[Any]]:
    """Yield the header, then the rows.

    Args:
        data: `source`, and how it is written.

    Raises:
        ConfigError: There is no such file, or it is not written so; names file and line.
    """
    source = data.source
    if source in BUNDLED:
        frame = BUNDLED[source](as_frame=True).frame
        yield list(frame.columns)
        yield from frame.itertuples(index=False, name=None)
        return
    yield from _read_files(list_files(source), data)


def measure_files(data: Data) -> int:
    """Return the size of the files in bytes; the table that is read from them is no smaller."""
    if data.source in BUNDLED:
        return 0
    return sum(file.stat().st_size for file in list_files(data.source))


def list_files(source: str) -> list[Path]:
    """List the files with the data: one, or those of a folder and its subfolders, by name.

    Raises:
        ConfigError: There are none in `data/source/`, or some of another format than the others.
    """
    path = Path(source)
    if not path.exists():
        files = [str(p) for p in sorted(SOURCE.glob("*")) if p.suffix not in (".dvc", ".md", "")]
        problem = f"no such file or bundled data set: '{source}'"
        raise ConfigError("data.source", problem + suggest(source, [*BUNDLED, *files]))
    if SOURCE.resolve() not in path.resolve().parents:
        raise ConfigError("data.source", f"'{source}' is not under {SOURCE}/, which DVC watches")
    if not path.is_dir():
        return [path]
    members = {
        endings: [file for file in sorted(path.rglob("*")) if file.name.endswith(endings)]
        for endings in (CSV, PARQUET)
    }
    if all(members.values()):
        problem = f"{members[CSV][0]} and {members[PARQUET][0]} are of different formats"
        raise ConfigError("data.source", problem)
    if not any(members.values()):
        endings = " or ".join((*CSV, *PARQUET))
        raise ConfigError("data.source", f"{path}/ has no file that ends in {endings}")
    return members[CSV] or members[PARQUET]


def _read_files(files: list[Path], data: Data) -> Iterator[list[Any]]:
    """Yield the rows of all files below the header of the first."""
    header: list[str] = []
    for file in files:
        read = _read_parquet_rows if file.name.endswith(PARQUET) else _read_csv_rows
        rows = read(file, data)
        names = next(rows)
        if not header:
            header = names
            yield header
        if names == header:
            yield from rows
            continue
        if sorted(names) != sorted(header):
            missing = [f"no '{name}'" for name in header if name not in names]
            new = [f"'{name}'" for name in names if name not in header]
            problem = f"{file} has {', '.join(missing + new)}, unlike {files[0]}"
            raise ConfigError("data.source", f"{problem}: files of a folder have the same columns")
        order = [names.index(name) for name in header]
        yield from ([row[i] for i in order] for row in rows)


def _read_csv_rows(path: Path, data: Data) -> Iterator[list[str]]:
    width, end = 0, 0
    encoding = "utf-8-sig" if data.encoding.lower() in UTF_8 else data.encoding
    with _open(path) as raw, io.TextIOWrapper(raw, encoding=encoding, newline="") as file:
        reader = csv.reader(
            file,
            delimiter=data.separator,
            quotechar=data.quote or None,
            quoting=csv.QUOTE_MINIMAL if data.quote else csv.QUOTE_NONE,
            strict=True,
        )
        try:
            for row in reader:
                width = width or len(row)
                if row and len(row) != width:
                    problem = f"{path}, line {reader.line_num}: {len(row)} values, not {width}"
                    raise ConfigError("data.source", problem)
                end = reader.line_num
                if row:
                    yield row
        except UnicodeError:
            raise ConfigError("data.encoding", _explain_encoding(path, data.encoding)) from None
        except csv.Error as error:
            if str(error).startswith(TOO_LONG):  # the module has one class for all errors
                cell = f"a cell has more than {csv.field_size_limit():,} characters"
                hint = f"if a {data.quote} before it is part of the text, set data.quote to ''"
                problem = f"{path}, line {end + 1}: {cell}{f'; {hint}' if data.quote else ''}"
                raise ConfigError("data.source", problem) from None
            problem = f"{path}, line {reader.line_num}: {error}"
            if separator := _guess_separator(path, data):
                raise ConfigError("data.separator", f"{problem}; is it '{separator}'?") from None
            hint = f"if {data.quote} is part of the text, set data.quote to ''"
            raise ConfigError("data.quote", f"{problem}; {hint}") from None
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
    """Guess the separator: another one that is more frequent in the first line, else None."""
    with _open(path) as file:
        header = file.readline().decode(data.encoding, "replace")
    best = max(SEPARATORS, key=header.count)
    return best if header.count(best) > header.count(data.separator) else None


def _read_parquet_rows(path: Path, data: Data) -> Iterator[list[str]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        problem = f"{path}: the model environment has no package that reads Parquet"
        raise ConfigError("data.source", f"{problem}; {ADD_PYARROW}") from None
    try:
        file = parquet.ParquetFile(path)
        fields = list(file.schema_arrow)
        for field in fields:
            _require_cells(path, field, data)
        yield [field.name for field in fields]
        for batch in file.iter_batches():
            columns = [
                [""] * batch.num_rows
                if field.name in data.drop
                else [_write_cell(value) for value in column.to_pylist()]
                for field, column in zip(fields, batch.columns, strict=True)
            ]
            yield from map(list, zip(*columns, strict=True))
    except (pyarrow.ArrowException, OSError) as error:
        raise ConfigError("data.source", f"{path} cannot be read as Parquet: {error}") from None


def _require_cells(path: Path, field: Any, data: Data) -> None:
    """Refuse a column whose values are no numbers, truth values, texts or dates."""
    from pyarrow import types

    kind = field.type.value_type if types.is_dictionary(field.type) else field.type
    is_cell = (
        types.is_integer, types.is_floating, types.is_decimal, types.is_boolean, types.is_null,
        types.is_string, types.is_large_string, types.is_string_view,
        types.is_date, types.is_timestamp, types.is_time,
    )  # fmt: skip
    if field.name not in data.drop and not any(check(kind) for check in is_cell):
        problem = f"{path}: column '{field.name}' is of type {field.type}, which is no single value"
        hint = "name it in data.drop, or write its parts as columns"
        raise ConfigError("data.source", f"{problem}; {hint}")


def _write_cell(value: Any) -> str:
    """Write a value as a cell of CSV: what is missing, or no number, is empty."""
    if value is None or value != value:  # noqa: PLR0124 (NaN is unequal to itself)
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
