"""A user's repository takes a later version of the template, as docs/upgrade.md says."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.core.settings import CHECKOUT
from tests.commits import commit_all
from tests.template import copy_template, is_template, is_user_file, working_tree

pytestmark = pytest.mark.timeout(900)

# Where a later version appends a line: every file of these kinds that is not the user's.
_COMMENTED = {".cfg", ".js", ".lock", ".md", ".py", ".sh", ".toml", ".yaml", ""}
SHIPPED_TESTS = ("tests/model/test_model.py", "tests/data/test_data.py")
_PARAMETERS = """\
name: houses
seed: 1
data:
  source: data/source/houses.csv
  target: price
  task: regression
train:
  estimator: sklearn.linear_model.Ridge
  transformers: [model.custom.rooms.Rooms]
  grid:
    alpha: [0.1, 1.0]
  scoring: r2
save:
  golden: 20
gate:
  metric: r2
  minimum: 0.8
"""
_TRANSFORMER = '''\
"""Rooms a square metre."""

from sklearn.base import BaseEstimator, TransformerMixin


class Rooms(TransformerMixin, BaseEstimator):
    """Adds a column."""

    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        return X.assign(density=X["rooms"] / X["area"])
'''


def git(folder: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    who = ["-c", "user.name=User", "-c", "user.email=user@localhost", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=check
    )


def write_houses(path: Path) -> None:
    draw = random.Random(7)
    rows = []
    for _ in range(200):
        area, rooms = draw.randint(40, 200), draw.randint(1, 6)
        town = draw.choice(["Ulm", "Bonn", ""])
        price = 2000 * area + 5000 * rooms + 30_000 * (town == "Ulm") + draw.gauss(0, 8000)
        rows.append(f"{area},{rooms},{town},{price:.0f}")
    path.write_text("\n".join(["area,rooms,town,price", *rows]) + "\n")


def own_tests() -> dict[str, str]:
    """Read the tests that docs/your-tests.md shows, by the path that stands before each."""
    page = (CHECKOUT / "docs" / "your-tests.md").read_text()
    shown = re.findall(r"`(tests/\w+/test_houses\.py)`:\n\n```python\n(.*?)```", page, re.DOTALL)
    assert len(shown) == 2
    return dict(shown)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template's repository: this version, tagged `copied`, and a later one on main."""
    folder = tmp_path_factory.mktemp("template")
    copy_template(folder)
    (folder / "README.md").write_text("# Slipway\n\nThe template's front page.\n")
    for name in SHIPPED_TESTS:
        (folder / name).parent.mkdir(parents=True)
        # A user's repository may have others there, which are about another model than ours.
        shipped = (CHECKOUT / name).read_text() if is_template() else '"""Shipped."""\n'
        (folder / name).write_text(shipped)
    commit_all(folder, "This version")
    git(folder, "tag", "copied")
    for name in working_tree(folder):
        path = folder / name
        if not is_user_file(name) and path.suffix in _COMMENTED and not path.is_symlink():
            comment = "// later" if path.suffix == ".js" else "# later"
            path.write_text(f"{path.read_text()}{comment}\n")
    for room in ("tasks", "deployments", "serving", "model", "docs", "tests/code"):
        (folder / room / "later.py").write_text('"""New in the later version."""\n')
    commit_all(folder, "A later version")
    return folder


def become_users(folder: Path) -> dict[str, str]:
    """Make a copy of the template somebody's own; return what is theirs, by path."""
    environments = folder / "deployments" / "environments"
    for name in ("heroku", "sagemaker"):
        (environments / f"{name}.toml").unlink()
    theirs = {
        "README.md": "# Houses\n\nWhat a house costs.\n",
        "params.yaml": _PARAMETERS,
        "model/custom/rooms.py": _TRANSFORMER,
        "deployments/environments/staging.toml": 'target = "process"\nport = 8085\n',
        **own_tests(),
    }
    for name, text in theirs.items():
        (folder / name).write_text(text)
    write_houses(folder / "data" / "source" / "houses.csv")
    dvc = [sys.executable, "-m", "dvc", "add", "--quiet", "data/source/houses.csv"]
    subprocess.run(dvc, cwd=folder, check=True)
    theirs["data/source/houses.csv.dvc"] = (folder / "data/source/houses.csv.dvc").read_text()
    # What flows have committed since.
    for name in ("dvc.lock", "model/houses.mlem", "model/houses.runtime.json", "reports/cv.json"):
        (folder / name).write_text("{}\n")
        theirs[name] = "{}\n"
    commit_all(folder, "Houses")
    return theirs


def take_later_version(folder: Path, template: Path) -> subprocess.CompletedProcess[str]:
    git(folder, "remote", "add", "upstream", str(template), check=False)
    git(folder, "fetch", "--quiet", "upstream")
    return git(folder, "merge", "--quiet", "--no-edit", "upstream/main", check=False)


@pytest.fixture
def users(template: Path, tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A user's repository that shares the template's history, and what is theirs in it."""
    folder = tmp_path / "houses"
    git(tmp_path, "clone", "--quiet", str(template), str(folder))
    git(folder, "reset", "--quiet", "--hard", "copied")
    return folder, become_users(folder)


def test_later_version_merges_without_a_conflict_and_the_model_passes(
    users: tuple[Path, dict[str, str]], template: Path, make_home: Callable[[str], Path]
) -> None:
    folder, theirs = users
    merged = take_later_version(folder, template)
    assert merged.returncode == 0, merged.stdout + merged.stderr
    assert {name: (folder / name).read_text() for name in theirs} == theirs
    assert (folder / "tasks" / "later.py").exists()
    assert (folder / "serving" / "app.py").read_text().endswith("# later\n")
    environments = {path.stem for path in (folder / "deployments/environments").glob("*.toml")}
    assert "staging" in environments
    assert not {"heroku", "sagemaker"} & environments

    (folder / "dvc.lock").unlink()  # it is not really one
    # Set up already: the environments are those of the checkout, and what it installs is shared.
    (folder / "model" / ".venv").symlink_to(CHECKOUT / "model" / ".venv")
    made = subprocess.run(
        ["make", "--old-file=setup", "test-model", f"PYTHON={sys.executable}"],
        cwd=folder,
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith(("SLIPWAY_", "PYTEST_"))},
            "SLIPWAY_HOME": str(make_home("upgraded")),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    assert "passed" in made.stdout
    assert not git(folder, "status", "--porcelain", "--", "model", "data", "reports").stdout


def test_copy_without_history_merges_once_it_says_what_was_copied(
    template: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    git(tmp_path, "clone", "--quiet", str(template), str(folder))
    git(folder, "reset", "--quiet", "--hard", "copied")
    shutil.rmtree(folder / ".git")
    commit_all(folder, "A copy")
    theirs = become_users(folder)

    refused = take_later_version(folder, template)
    assert "unrelated histories" in refused.stderr
    conflicts = git(
        folder, "merge", "--allow-unrelated-histories", "upstream/main", check=False
    ).stdout.count("CONFLICT")
    assert conflicts > 50
    git(folder, "merge", "--abort")

    page = (CHECKOUT / "docs" / "upgrade.md").read_text()
    search = re.search(r"^(git log --format.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert search
    result = subprocess.run(
        search[1], shell=True, cwd=folder, capture_output=True, text=True, check=True
    )
    copied = result.stdout.split()[-1]
    assert copied == git(template, "rev-parse", "copied").stdout.strip()
    join = "git merge -s ours --allow-unrelated-histories"
    assert f"\n{join} <commit>\n" in page
    git(folder, *join.split()[1:], "--no-edit", copied)
    merged = take_later_version(folder, template)
    assert merged.returncode == 0, merged.stdout + merged.stderr
    assert {name: (folder / name).read_text() for name in theirs} == theirs


def test_every_users_file_is_on_the_page() -> None:
    page = (CHECKOUT / "docs" / "upgrade.md").read_text()
    table = page[page.index("## What is yours") : page.index("Everything else")]
    for name in (
        "README.md", "params.yaml", "data/source/", "model/custom/", "tests/model/", "tests/data/",
        "deployments/environments/", "deployments/trust/", ".dvc/config", "dvc.lock",
        "reports/*.json", "reports/*.csv",
    ):  # fmt: skip
        assert f"`{name}`" in table, name
        assert is_user_file(name.replace("*", "a") + "x" * name.endswith("/")), name
