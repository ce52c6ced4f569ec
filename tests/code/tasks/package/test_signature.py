"""Attacks on the signature of a model, each refused before the model's file is even fetched."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from deployments.diagnosis.signing import check_signing
from deployments.local import signing
from deployments.sign import open_key, sign_checkout, sign_history
from tasks.core.errors import CandidateRejected, ConfigurationError
from tasks.core.settings import Settings
from tasks.package import statement
from tasks.package.package import read_package
from tasks.package.signature import read_digests, verify_signature, write_statement
from tasks.repository.git import Git
from tasks.repository.release_history import read_history
from tasks.repository.workspace import Workspace, check_out, move_workspace
from tasks.training.candidate import commit_candidate
from tasks.training.publish import publish
from tasks.training.signing import read_key, require_key, sign_candidate
from tests.code.light_model import write_light_model
from tests.commits import commit_all


@pytest.fixture
def unsigned(tmp_path: Path) -> Workspace:
    """A commit with a saved model that nobody has signed."""
    folder = tmp_path / "repository"
    write_light_model(folder / "model", "wine")
    md5 = json.loads((folder / "model/wine.runtime.json").read_text())["artifacts"]["model/wine"]
    out = {"path": "model/wine", "md5": md5["md5"]}
    for path, text in {
        ".gitignore": "/model/wine\n",
        "params.yaml": "name: wine\n",
        "dvc.lock": json.dumps({"stages": {"save": {"outs": [out]}}}),
        "data/source.dvc": "outs: []\n",
        "reports/metrics.json": '{"f1": 0.9}',
        "serving/app.py": "pass\n",
        "model/custom/steps.py": "pass\n",
        "README.md": "hello\n",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return Workspace(folder, commit_all(folder, "Save wine"), "main")


@pytest_asyncio.fixture
async def signed(unsigned: Workspace) -> Workspace:
    """The same, signed by a worker."""
    await write_statement(unsigned, read_key(Settings().signing_key_file or Path()), None)
    return _commit(unsigned)


def _commit(workspace: Workspace) -> Workspace:
    return Workspace(workspace.path, commit_all(workspace.path, "Change"), "main")


async def _verify(workspace: Workspace) -> None:
    await verify_signature.fn(read_package(workspace), "production")


async def test_signed_model_is_accepted_whatever_else_its_commit_changes(signed: Workspace) -> None:
    (signed.path / "README.md").write_text("changed\n")
    later = _commit(signed)
    package = await verify_signature.fn(read_package(later), "production")
    assert package.attachments.keys() == {"wine.sig", "wine.provenance.json", "signers.pem"}
    provenance = json.loads(package.attachments["wine.provenance.json"])
    assert {"params.yaml", "dvc.lock", "data/source.dvc"} == provenance["digests"].keys()
    assert package.attachments["signers.pem"].startswith(b"-----BEGIN PUBLIC KEY-----")


async def test_model_that_nobody_signed_is_refused(unsigned: Workspace) -> None:
    with pytest.raises(CandidateRejected, match=r"no valid signature.*: it is not signed"):
        await _verify(unsigned)


@pytest.mark.parametrize(
    "path",
    [
        "model/wine.mlem", "model/wine.golden.json", "model/wine.provenance.json",
        "reports/metrics.json", "serving/app.py", "serving/more.py", "model/custom/steps.py",
        "params.yaml", "dvc.lock", "data/source.dvc",
    ],
)  # fmt: skip
async def test_file_that_was_changed_or_added_since_is_named(signed: Workspace, path: str) -> None:
    file = signed.path / path
    file.write_text((file.read_text() if file.exists() else "") + " ")
    with pytest.raises(CandidateRejected, match=f"{path} (is not the file that was|was not) sign"):
        await _verify(_commit(signed))


async def test_file_that_is_gone_is_named(signed: Workspace) -> None:
    (signed.path / "model/custom/steps.py").unlink()
    with pytest.raises(CandidateRejected, match=r"custom/steps\.py was signed and is missing"):
        await _verify(_commit(signed))


async def test_link_is_refused(signed: Workspace) -> None:
    (signed.path / "serving/more.py").symlink_to("/etc/hostname")
    with pytest.raises(CandidateRejected, match=r"serving/more\.py is a link"):
        await _verify(_commit(signed))


async def test_old_signature_does_not_fit_a_new_model(signed: Workspace) -> None:
    runtime = signed.path / "model/wine.runtime.json"
    values = json.loads(runtime.read_text())
    values["artifacts"]["model/wine"]["sha256"] = "0" * 64
    runtime.write_text(json.dumps(values))
    with pytest.raises(CandidateRejected, match=r"model/wine is not the file .* \(and 1 more"):
        await _verify(_commit(signed))


def _edit(bundle: str, change: Callable[[dict[str, object]], None]) -> str:
    content = json.loads(bundle)
    change(content)
    return json.dumps(content)


async def test_signature_over_other_bytes_is_refused(signed: Workspace) -> None:
    file = signed.path / "model/wine.sig"
    other = statement.sign("wine", {"model/wine": "0" * 64}, _worker_key())
    payload = json.loads(other)["dsseEnvelope"]["payload"]
    file.write_text(_edit(file.read_text(), lambda b: b["dsseEnvelope"].update(payload=payload)))  # type: ignore[attr-defined]
    with pytest.raises(CandidateRejected, match="signature of slipway@localhost is of other bytes"):
        await _verify(_commit(signed))


async def test_signature_that_is_none_or_of_another_model_is_refused(signed: Workspace) -> None:
    file, digests = signed.path / "model/wine.sig", await read_digests(signed)
    for text, fault in (
        ("{", "cannot be read"),
        (statement.sign("beer", digests, _worker_key()), "of model beer"),
    ):
        file.write_text(text)
        with pytest.raises(CandidateRejected, match=fault):
            await _verify(_commit(signed))


async def test_key_counts_only_while_the_deploying_side_allows_it(
    signed: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Settings().allowed_signers.read_text()
    signing.prepare(tmp_path / "another")
    trust = signing.trust_folder(tmp_path / "another")
    monkeypatch.setenv("SLIPWAY_TRUST", str(trust))
    # The commit brings its signers along; nobody reads them.
    (signed.path / "deployments/trust").mkdir(parents=True)
    (signed.path / "deployments/trust/allowed_signers").write_text(old)
    later = _commit(signed)
    with pytest.raises(CandidateRejected, match=r"key that signed it .* is not allowed"):
        await _verify(later)
    with (trust / "allowed_signers").open("a") as file:
        file.write(old)
    await _verify(later)


async def test_worker_without_a_key_is_told_before_anything_starts(
    signed: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none(_: str) -> None:
        return None

    monkeypatch.delenv("SLIPWAY_SIGNING_KEY_FILE")
    monkeypatch.setattr("tasks.repository.signing_key.read_secret", none)
    with pytest.raises(ConfigurationError, match="this worker has no key to sign with"):
        await _verify(signed)
    with pytest.raises(ConfigurationError, match="its candidates do not get into main"):
        await require_key.fn("main")


async def test_worker_signs_what_a_worker_made_and_code_around_it(
    unsigned: Workspace, signed: Workspace
) -> None:
    (signed.path / "model/wine.sig").unlink()
    by_hand = _commit(signed)
    assert await sign_candidate(by_hand, None) == by_hand
    Git(signed.path)("revert", "--no-edit", "HEAD")
    (signed.path / "serving/app.py").write_text("upgraded = True\n")
    upgraded = await sign_candidate(_commit(signed), {"passed": True})
    await _verify(upgraded)
    assert await sign_candidate(upgraded, None) == upgraded
    (signed.path / "model/wine.golden.json").write_text("{}")
    with pytest.raises(Exception, match="metadata"):
        await sign_candidate(_commit(signed), None)


def _worker_key() -> statement.PrivateKey:
    return read_key(Settings().signing_key_file or Path())


def test_keys_of_people_sign_models_too() -> None:
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    bundle = statement.sign("wine", {"a": "0" * 64}, key)
    for line in (f"ann@localhost {public} x", f'ann@localhost namespaces="git,slipway" {public}'):
        (signer,) = statement.read_signers(f"# people\n\n{line}\n")
        assert statement.verify(bundle, [signer]).signer.name == "ann@localhost"
    for line in (
        f'ann@localhost namespaces="git" {public}',
        f'ann@localhost valid-before="20200101" {public}',
        f"ann@localhost cert-authority {public}",
        "ann@localhost ssh-ed25519 nothing",
        f"# ann@localhost {public}",
    ):
        assert statement.read_signers(line) == []


async def test_history_is_signed_once_and_stays_as_old_as_it_is(
    unsigned: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, clone = Settings().signing_key_file or Path(), Git(unsigned.path)
    for name in ("wine@v0.0.1", "wine#local#1"):
        clone("tag", "--annotate", "--message=Released by Slipway\n\nFlow-Run: 7", name)
    clone("tag", "wine#local#9")
    origin = tmp_path / "origin.git"
    clone("clone", "--quiet", "--bare", str(unsigned.path), str(origin))
    age = ("for-each-ref", "--format=%(creatordate:raw)", "refs/tags/wine#local#1")
    at = Git(origin)(*age)

    monkeypatch.setenv("GIT_DIR", str(tmp_path / "of-a-hook"))
    report = await sign_history(str(origin), key, _worker_key(), confirmed=False)
    commit = unsigned.commit
    assert report.startswith(f"not signed: wine@v0.0.1, wine#local#1, model of {commit[:7]}.")
    await sign_history(str(origin), key, _worker_key(), confirmed=True)
    assert (
        await sign_history(str(origin), key, _worker_key(), confirmed=True)
        == "all releases are signed"
    )
    workspace = await check_out.fn("wine@v0.0.1", tmp_path / "worker", str(origin))
    (entry,) = await read_history(replace(workspace, signed_tags=True), "local")
    assert (entry.commit, entry.version, entry.run) == (commit, "v0.0.1", "7")
    assert at == Git(origin)(*age)
    await _verify(workspace)


async def test_person_signs_a_model_made_by_hand(unsigned: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "key"
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(file)]
    subprocess.run(argv, check=True)
    key = open_key(file, lambda: "secret")
    with pytest.raises(ConfigurationError, match="cannot be used to sign"):
        open_key(file, lambda: "wrong")
    assert await sign_checkout(unsigned.path, key) == "model/wine.sig"
    later = _commit(unsigned)
    with pytest.raises(CandidateRejected, match="is not allowed"):
        await _verify(later)
    allowed = Settings().allowed_signers
    allowed.write_text(f"{allowed.read_text()}ann@localhost {file.with_suffix('.pub').read_text()}")
    await _verify(later)


async def test_doctor_says_whether_signatures_of_workers_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await check_signing()).ok
    monkeypatch.setenv("SLIPWAY_TRUST", str(tmp_path))
    assert "does not allow it as slipway@localhost" in (await check_signing()).text
    (tmp_path / "key").write_text("nothing")
    monkeypatch.setenv("SLIPWAY_SIGNING_KEY_FILE", str(tmp_path / "key"))
    assert "the worker's signing key cannot be used" in (await check_signing()).text


async def test_merge_into_a_branch_is_signed_with_the_code_of_the_branch(
    signed: Workspace, tmp_path: Path
) -> None:
    origin, person = tmp_path / "origin.git", tmp_path / "person"
    clone = Git(signed.path)
    clone("clone", "--quiet", "--bare", str(signed.path), str(origin))
    clone("remote", "add", "origin", str(origin))
    clone("clone", "--quiet", str(origin), str(person))
    (person / "serving/app.py").write_text("mended = True\n")
    commit_all(person, "Mend the server")
    Git(person)("push", "--quiet", "origin", "HEAD:main")
    lock = signed.path / "dvc.lock"
    lock.write_text(lock.read_text() + "\n")
    commit = await commit_candidate.fn(signed, "Train wine")
    merge = await publish.fn(Workspace(signed.path, commit, commit), [], "main")
    main = await move_workspace(signed, merge)
    assert (main.path / "serving/app.py").read_text() == "mended = True\n"
    assert lock.read_text().endswith("\n")
    await _verify(main)
