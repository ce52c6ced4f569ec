"""Requirements of a pickled model wherever it is loaded: own source files, installed packages."""

import ast
import pickle
import sys
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata
from importlib.util import find_spec, resolve_name
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple
from urllib.parse import unquote

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

_PYTHON = f"cp{sys.version_info.major}{sys.version_info.minor}"


class Code(NamedTuple):
    """Source of the user's own (path in the repository to content), and the modules it imports."""

    files: dict[str, bytes]
    installed: set[str]


class _Recorder(pickle.Unpickler):
    """An unpickler that records the module of each class and function that a pickle refers to."""

    def __init__(self, pickled: IO[bytes]) -> None:
        super().__init__(pickled)
        self.modules: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        self.modules.add(module)
        return super().find_class(module, name)


def trace(pickled: Path) -> tuple[Any, Code]:
    """Load a pickle, and find the code that it refers to, following imports of the user's own.

    Args:
        pickled: the file of the model, made by ourselves.

    Returns:
        The model; and of its code the files under the working directory, with the `__init__.py` of
        the packages they are in, and the installed modules that they or the pickle itself need.
    """
    with pickled.open("rb") as file:
        recorder = _Recorder(file)
        model = recorder.load()
    files: dict[str, bytes] = {}
    installed: set[str] = set()
    todo, visited = sorted(recorder.modules), set(recorder.modules)
    while todo:
        name = todo.pop()
        path = _find_own_file(name)
        if path is None:
            installed.add(name.partition(".")[0])
            continue
        files[path.relative_to(Path.cwd()).as_posix()] = path.read_bytes()
        parent = name.rpartition(".")[0]
        new = {*_find_imports(name, path), *([parent] if parent else [])} - visited
        visited |= new
        todo += sorted(new)
    return model, Code(files, {name for name in installed if name in _find_distributions()})


def find_versions(modules: Iterable[str]) -> dict[str, str]:
    """Find the exact versions of the distributions of modules, and of all that these require.

    Args:
        modules: names to import, e.g. `sklearn`.

    Returns:
        Version by normalised name, sorted, e.g. `{"joblib": "1.5.0", "scikit-learn": "1.9.1"}`.
    """
    todo = [name for module in modules for name in _find_distributions()[module]]
    versions: dict[str, str] = {}
    while todo:
        distribution = metadata.distribution(todo.pop())
        name = canonicalize_name(distribution.metadata["Name"])
        if name in versions:
            continue
        versions[name] = distribution.version
        requirements = map(Requirement, distribution.requires or [])
        todo += [r.name for r in requirements if not r.marker or r.marker.evaluate({"extra": ""})]
    return dict(sorted(versions.items()))


def find_hashes(versions: Mapping[str, str], lock: Path) -> dict[str, list[str]]:
    """Find what `uv.lock` says of the files of distributions, for this version of Python.

    Args:
        versions: version by normalised name.
        lock: the lock of the environment that these versions are installed in.

    Returns:
        Hashes by name, sorted, e.g. `{"joblib": ["sha256:…"]}`, whatever the platform; no name
        whose version the lock does not have.
    """
    hashes: dict[str, set[str]] = {}
    for package in tomllib.loads(lock.read_text())["package"]:
        if versions.get(package["name"]) != package.get("version"):
            continue
        files = [*package.get("wheels", []), *filter(None, [package.get("sdist")])]
        own = {file["hash"] for file in files if "hash" in file and _fits_python(file)}
        hashes.setdefault(package["name"], set()).update(own)
    return {name: sorted(own) for name, own in sorted(hashes.items()) if own}


@cache
def _find_distributions() -> Mapping[str, list[str]]:
    """Find the distributions of all installed modules, which takes a fifth of a second."""
    return metadata.packages_distributions()


def _fits_python(file: Mapping[str, str]) -> bool:
    """Check whether a file of the lock can be for this version of Python, on any platform."""
    name = unquote(PurePosixPath(file.get("url") or file["filename"]).name)
    if not name.endswith(".whl"):
        return True
    _, _, _, tags = parse_wheel_filename(name)
    return any(
        tag.interpreter.startswith("py") or tag.abi == "abi3" or tag.interpreter == _PYTHON
        for tag in tags
    )


def _find_own_file(module: str) -> Path | None:
    """Find the source file of a module of the repository; None for all other modules."""
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):  # an optional import of something not installed
        return None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    path = Path(spec.origin).resolve()
    is_own = path.is_relative_to(Path.cwd()) and not path.is_relative_to(Path(sys.prefix).resolve())
    return path if is_own else None


def _find_imports(module: str, path: Path) -> set[str]:
    """Find the modules that a source file imports, anywhere in it."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            base = resolve_name(base, package) if node.level else base
            names.add(base)
            # `from package import module` looks the same as `from module import name`
            submodules = {f"{base}.{alias.name}" for alias in node.names}
            names |= {name for name in submodules if _find_own_file(name)}
    return names
