"""The policy of an environment: who may release what there, as its file says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from tasks.training.rules import Rules

ANY = "*"
# The environment of the developer's machine: what runs there, its user decides.
LAPTOP = "local"
_OPEN = {"branches": [ANY], "gate": "advised", "signatures": "off", "replace": "allowed"}


class Policy(BaseModel):
    """The policy of an environment; no variable overrides these keys.

    Attributes:
        branches: Branches of origin whose commits may be released; `release/*` stands for all that
            start so, `*` alone for every commit.
        gate: `required` to release no commit that the gate rejects, `advised` to tell only.
        gate_rules: Rules of the gate, with the keys of `gate` in params.yaml; without them, the
            gate judges by the rules of the version that is live.
        promote_from: Environment in which a version has to have been live and healthy before.
        force: Whether a deploy may be forced, which takes a reason.
        signatures: `required` to load no model and count no tag that no allowed signer has signed;
            `off` for neither.
        replace: `refused` to release no model with another name, other columns or other classes
            than what is live, unless a deploy says so; `allowed` to release it as any other.
        approval: `suspend` to ask a person before each release; that ends the run's process
            until there is an answer.
    """

    branches: tuple[Annotated[str, Field(min_length=1)], ...] = Field(("main",), min_length=1)
    gate: Literal["required", "advised"] = "required"
    gate_rules: Rules | None = None
    promote_from: str = ""
    force: bool = True
    signatures: Literal["required", "off"] = "required"
    replace: Literal["refused", "allowed"] = "refused"
    approval: Literal["none", "suspend"] = "none"

    @property
    def signed(self) -> bool:
        """True if models and tags count only with the signature of an allowed signer."""
        return self.signatures == "required"

    @model_validator(mode="before")
    @classmethod
    def _open_the_laptop(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**_OPEN, **values} if values.get("name") == LAPTOP else values

    @model_validator(mode="after")
    def _promote_from_another(self) -> Policy:
        if self.promote_from and self.promote_from == getattr(self, "name", None):
            raise ValueError("promote_from: it is this environment itself")
        return self


KEYS = frozenset(Policy.model_fields)


def describe(policy: Policy) -> str:
    """Return a policy in one line, as `slipway check` prints it."""
    rules = "its own rules" if policy.gate_rules else "the rules of the live version"
    return "; ".join([
        f"branches {', '.join(policy.branches)}",
        f"gate {policy.gate} by {rules}",
        *([f"promoted from {policy.promote_from}"] if policy.promote_from else []),
        f"signatures {policy.signatures}",
        f"another interface {policy.replace}",
        "force with a reason" if policy.force else "no force",
        *(["a person approves"] if policy.approval == "suspend" else []),
    ])  # fmt: skip
