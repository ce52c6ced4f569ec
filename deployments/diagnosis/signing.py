"""The check of `doctor` that workers can sign, and that their signatures count."""

from __future__ import annotations

from deployments.diagnosis.finding import Finding, problem
from tasks.core.errors import SlipwayError
from tasks.core.secret_blocks import SIGNING_KEY, variable
from tasks.core.settings import Settings
from tasks.repository.git import WORKER


async def check_signing() -> Finding:
    """Check that there is a key to sign with, and that it is allowed as a worker's."""
    from tasks.package.signature import signers
    from tasks.package.statement import Signer
    from tasks.repository.signing_key import signing_key
    from tasks.training.signing import read_key

    thing = "signing key"
    try:
        async with signing_key() as file:
            if file is None:
                return Finding(
                    thing,
                    "not set up: nothing is signed, and retrain does not merge into main; to set it"
                    f" up, set {variable(SIGNING_KEY)}",
                )
            key = Signer(WORKER, read_key(file).public_key())
    except SlipwayError as error:
        return problem(thing, error)
    allowed = Settings().allowed_signers
    if any((signer.name, signer.hint) == (WORKER, key.hint) for signer in signers()):
        return Finding(thing, f"it signs, and {allowed} allows it as {WORKER}")
    return Finding(
        thing,
        f"{allowed} does not allow it as {WORKER}: what it signs does not count",
        f"add the line `{WORKER} <public key>` to deployments/trust/allowed_signers, commit it, and"
        " run `slipway apply`",
    )
