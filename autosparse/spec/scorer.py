"""The section `scorer`: one to learn, or one that was trained before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from annotated_types import MinLen
from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from autosparse.pretrained import pretrained_scorers
from autosparse.spec.choices import ScorerChoice, Section
from autosparse.spec.diagnostics import refusal
from autosparse.text import quoted


class Pretrained(Section):
    """A scorer that was trained before: the plan then holds no IRP, and nothing to tune."""

    pretrained: Annotated[
        str,
        MinLen(1),
        Field(
            description="one that ships with the package, such as cifar-v1, or the `scorer` folder of a finished run, "
            "relative to this spec"
        ),
    ]

    @model_validator(mode="before")
    @classmethod
    def _alone(cls, value: Any) -> Any:
        other = next((key for key in value if key != "pretrained"), None) if isinstance(value, Mapping) else None
        if other is not None:
            hint = "a pretrained scorer keeps the options that it was trained with"
            raise PydanticCustomError("unknown_key", "unknown key `{key}`", {"key": str(other), "hint": hint})
        return value


def scorer_kind(value: Any) -> str:
    """Which of the two a spec's `scorer` is: `folder`, or `choice` of one to train."""
    named = isinstance(value, Mapping) and "pretrained" in value
    return "folder" if named or isinstance(value, Pretrained) else "choice"


def _not_a_name(value: Any) -> Any:
    if isinstance(value, str) and value in pretrained_scorers():
        raise refusal(
            f"must be a scorer but is {quoted(value)}, which has been trained",
            f"such as `scorer: {{pretrained: {value}}}`",
        )
    return value


Scorer = Annotated[
    Annotated[ScorerChoice, Tag("choice")] | Annotated[Pretrained, Tag("folder")],
    Discriminator(scorer_kind),
    BeforeValidator(_not_a_name),
]
