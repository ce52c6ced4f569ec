"""The argvs of commands, without running them."""

from __future__ import annotations

from pathlib import Path

from tasks.bucket import dvc
from tasks.core import uv
from tasks.repository import git


def test_dvc_waits_for_locks_and_takes_no_path_for_an_option() -> None:
    assert dvc.add("--evil.csv") == ["dvc", "--wait-for-lock", "add", "--", "--evil.csv"]


def test_dvc_reproduces_changed_stages_or_all() -> None:
    assert dvc.repro("train", force=False)[2:] == ["repro", "train"]
    assert dvc.repro("train", force=True)[2:] == ["repro", "--force", "train"]
    assert "--dry" in dvc.list_changes("train")


def test_git_pushes_all_refs_or_none() -> None:
    argv = git.push(["a:b", ":c"])
    assert argv[:2] == ["git", "push"]
    assert "--atomic" in argv
    assert argv[-3:] == ["origin", "a:b", ":c"]


def test_refused_refs_are_read_from_porcelain_output() -> None:
    output = (
        "To /tmp/origin.git\n"
        "!\tHEAD:refs/heads/main\t[rejected] (fetch first)\n"
        "!\t:refs/slipway/runs/a\t[remote rejected] (hook declined)\n"
        "=\trefs/tags/wine@v0.0.1:refs/tags/wine@v0.0.1\t[up to date]\n"
        "*\tHEAD:refs/heads/new\t[new branch]\n"
        "Done\n"
    )
    assert git.refused_refs(output) == {"refs/heads/main": False, "refs/slipway/runs/a": True}


def test_ref_that_looks_like_an_option_stays_a_ref() -> None:
    assert git.resolve("--help")[-2:] == ["--end-of-options", "--help^{commit}"]


def test_packages_for_another_machine_are_wheels() -> None:
    argv = uv.install_for(
        Path("/t"), ["--requirements", "m"], python="3.12", platform="aarch64-manylinux_2_28"
    )
    assert argv[:6] == ["uv", "pip", "install", "--quiet", "--target", "/t"]
    assert argv[argv.index("--python-platform") + 1] == "aarch64-manylinux_2_28"
    assert argv[argv.index("--only-binary") + 1] == ":all:"


def test_byte_code_is_unchecked_and_has_its_path_in_the_image() -> None:
    argv = uv.compile_for(Path("/t"), "/app", "3.12", instead=True)
    assert argv[argv.index("--invalidation-mode") + 1] == "unchecked-hash"
    assert argv[-5:] == ["-s", "/t", "-p", "/app", "/t"]
    assert "-b" in argv
    assert "-b" not in uv.compile_for(Path("/t"), "/app", "3.12")


def test_pins_of_the_model_override_those_of_the_server() -> None:
    pinned = uv.pinned([Path("s.txt"), Path("m.txt")], hashed=True)
    assert pinned == [
        "--requirements", "s.txt", "--requirements", "m.txt", "--overrides", "m.txt",
        "--require-hashes",
    ]  # fmt: skip
    assert uv.install(Path("/e"), pinned)[-7:] == pinned
