"""Packages of a release: installed only if they are the files that were locked."""

from __future__ import annotations

import base64
import hashlib
import platform
import subprocess
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import uv

from tasks.core.errors import TerminalError
from tasks.package.package import Package
from tasks.package.runtime import make_runtime
from tasks.repository.workspace import Workspace


def make_wheel(folder: Path, name: str, version: str, code: str = "") -> str:
    """Add the wheel of a package with one module to an index, and return its hash."""
    metadata = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n{code}",
        f"{metadata}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{metadata}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {
        path: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        for path, text in files.items()
    }
    files[f"{metadata}/RECORD"] = "".join(
        f"{path},sha256={digest},{len(files[path])}\n" for path, digest in digests.items()
    )
    page = folder / name / "index.html"
    page.parent.mkdir(exist_ok=True)
    wheel = page.parent / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    page.write_text(f'<a href="{wheel.name}#sha256={digest}">{wheel.name}</a>')
    return f"sha256:{digest}"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a package index, the only one that uv knows."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in ("UV_FIND_LINKS", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UV_DEFAULT_INDEX", folder.as_uri())
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "home"))
    return folder


@pytest.fixture
def package(tmp_path: Path, index: Path) -> Package:
    """A package whose server needs `server`, which is locked, and whose model needs `library`."""
    make_wheel(index, "server", "1.0")
    project = tmp_path / "workspace" / "serving"
    project.mkdir(parents=True)
    (project / "pyproject.toml").write_text(
        '[project]\nname = "serving"\nversion = "1"\nrequires-python = ">=3.11"\n'
        'dependencies = ["server"]\n[tool.uv]\npackage = false\n'
    )
    subprocess.run([uv.find_uv_bin(), "lock", "--quiet"], cwd=project, check=True)
    workspace = Workspace(project.parent, "a" * 40, "main")
    workspace.__dict__["parameters"] = {"name": "wine"}
    python = platform.python_version()
    return Package(workspace, "wine", "a" * 40, "", "", 0, python, {"library": "2.0"}, {}, "")


def with_hashes(package: Package, hashes: Mapping[str, Sequence[str]]) -> Package:
    return replace(package, hashes=hashes)


async def test_packages_that_were_locked_are_installed(package: Package, index: Path) -> None:
    locked = with_hashes(
        package, {"library": [make_wheel(index, "library", "2.0"), f"sha256:{'0' * 64}"]}
    )
    python = await make_runtime.fn(locked)
    code = "import library, server; print(library.VERSION, server.VERSION)"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "2.0 1.0\n"


async def test_other_file_of_the_same_version_is_refused_by_name(
    package: Package, index: Path
) -> None:
    make_wheel(index, "library", "2.0")
    # Read as a status, such a hash would make the failure one that another try may mend.
    with pytest.raises(
        TerminalError, match=r"^library==2\.0 in the package index is not"
    ) as caught:
        await make_runtime.fn(with_hashes(package, {"library": [f"sha256:{'5025' * 16}"]}))
    assert "index" in caught.value.next_step
    assert not list((index.parent / "home" / "environments").glob("runtime-*[0-9a-f]"))


async def test_other_file_of_the_server_is_refused_by_name(package: Package, index: Path) -> None:
    hashes = {"library": [make_wheel(index, "library", "2.0")]}
    make_wheel(index, "server", "1.0", code="import evil")
    with pytest.raises(TerminalError, match=r"^server==1\.0 in the package index is not"):
        await make_runtime.fn(with_hashes(package, hashes))


async def test_package_without_a_hash_is_refused(package: Package) -> None:
    with pytest.raises(TerminalError, match=r"no hash of library 2\.0 when wine@aaaaaaa was saved"):
        await make_runtime.fn(with_hashes(package, {"other": [f"sha256:{'0' * 64}"]}))


async def test_model_saved_before_hashes_were_recorded_is_installed_by_version(
    package: Package, index: Path
) -> None:
    make_wheel(index, "library", "2.0")
    assert (await make_runtime.fn(package)).exists()


async def test_further_package_of_the_models_lock(package: Package, index: Path) -> None:
    hashes = {"library": [make_wheel(index, "library", "2.0")]}
    make_wheel(index, "reader", "3.0")
    model = package.workspace.path / "model"
    text = (model.with_name("serving") / "pyproject.toml").read_text()
    model.mkdir()
    (model / "pyproject.toml").write_text(text.replace('"server"]', '"server", "reader"]'))
    subprocess.run([uv.find_uv_bin(), "lock", "--quiet"], cwd=model, check=True)
    python = await make_runtime.fn(with_hashes(package, hashes), "reader")
    code = "import reader, server; print(reader.VERSION, server.VERSION)"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "3.0 1.0\n"
    with pytest.raises(TerminalError, match=r"model/uv\.lock of wine@aaaaaaa does not have other"):
        await make_runtime.fn(with_hashes(package, hashes), "other")
