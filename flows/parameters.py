"""Types of the flows' parameters, which the form in the Prefect UI and the API check."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from tasks.platforms.catalogue import environment_names

# Every name of Git's; nothing that Git would take for an option.
_REF = r"[A-Za-z0-9][A-Za-z0-9._/@#+-]{0,199}"
Ref = Annotated[str, Field(pattern=f"^{_REF}$")]
BranchOrNone = Annotated[str, Field(pattern=f"^({_REF})?$")]  # a form knows no None, but emptiness
# `wine@v0.0.3`; the model is optional.
VersionOrNone = Annotated[str, Field(pattern=r"^(([a-z0-9][a-z0-9-]{1,39}@)?v\d+\.\d+\.\d+)?$")]
_MOMENT = r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d)?Z?)?"
WindowOrNone = Annotated[str, Field(pattern=f"^({_MOMENT}(/{_MOMENT})?)?$")]
Reason = Annotated[str, Field(max_length=500)]
# Not a Literal: for a flow called in Python, `load_environment` raises an error with the next step.
EnvironmentName = Annotated[str, Field(json_schema_extra={"enum": list(environment_names())})]
EnvironmentOrAll = Annotated[str, Field(json_schema_extra={"enum": ["", *environment_names()]})]
Overrides = Annotated[
    dict[str, Any],
    Field(json_schema_extra={"examples": [{"train.cv": 3, "train.grid.C": [1.0, 10.0]}]}),
]
NO_OVERRIDES: dict[str, Any] = {}
NO_NUMBERS: dict[str, Any] = {}
