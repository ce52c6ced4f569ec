"""What several folders share: models saved by the real MLEM, and a real browser."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from tests.code.light_model import write_light_model
from tests.code.serving.running import HERE, NAMES, model_python

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="session")
def shared(run_folder: Path) -> Path:
    """A folder of what all workers of a run use: saved models, a Docker engine, a base image."""
    folder = run_folder / "serving"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def bundles(shared: Path) -> Path:
    """Folders of models saved by the real MLEM, one a name."""
    folder = shared / "bundles"
    with FileLock(shared / "bundles.lock"):
        if not (folder / NAMES[-1] / "release.json").exists():
            model_python(HERE / "make_bundles.py", folder)
    return folder


@pytest.fixture(scope="session")
def light_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The four files of a model whose server starts in a fraction of the default model's time."""
    folder = tmp_path_factory.mktemp("light") / "wine"
    write_light_model(folder, "wine")
    return folder


@pytest.fixture(scope="session")
def layers(shared: Path) -> Path:
    """The folder of images' layers, shared by all homes: each is packed once a run."""
    folder = shared / "layers"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def install(run_folder: Path) -> Callable[[Path, str], Path]:
    """Install a package, from uv's cache, where it is in nobody's environment; once a run."""

    def install_for(python: Path, requirement: str) -> Path:
        # Environments of one interpreter take the same files.
        name = sha256(f"{python.resolve()} {requirement}".encode()).hexdigest()[:16]
        folder = run_folder / f"package-{name}"
        uv = Path(sys.executable).with_name("uv")
        with FileLock(folder.with_suffix(".lock")):
            if not folder.exists():
                argv = [uv, "pip", "install", "--quiet", "--python", python,
                        "--target", folder, requirement]  # fmt: skip
                subprocess.run(argv, check=True, timeout=300)
        return folder

    return install_for


# Not for the session: as long as Playwright runs, no other event loop can run in this thread.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium; the test is skipped where there is none."""
    result = next(filter(None, map(shutil.which, BROWSERS)), None)
    if result is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=result, args=QUIET)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open a page; at the end, nothing may have complained or left the page's origin."""
    contexts, complaints, requests = [], [], []

    def opener(url: str, width: int = 1280, *, ours: bool = True) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 850})
        contexts.append(context)
        page = context.new_page()
        if ours:  # what others complain about in their own pages is theirs to mend
            page.on("console", lambda message: complaints.append((message.type, message.text)))
            page.on("pageerror", lambda error: complaints.append(("error", str(error))))
        page.on("request", lambda request: requests.append((url, request.url)))
        page.goto(url)
        return page

    yield opener
    for context in contexts:
        context.close()
    assert [text for kind, text in complaints if kind == "error" and "422" not in text] == []
    for url, item in requests:
        origin = "/".join(url.split("/")[:3])
        assert item.startswith((f"{origin}/", "data:", "blob:")), item
