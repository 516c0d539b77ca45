"""Options of `training` that act under masks: their limits, and the sections where they mean nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from autosparse.errors import InvalidValue, SpecError
from autosparse.planning.compile import compile_plan
from autosparse.spec import load_spec, resolve
from autosparse.spec.resolve import provenance
from tests.plans import MACHINE

SPEC = "{model: lenet, dataset: digits, method: learned, scorer: mlp, compare: [dense]}"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("training.rescale", -0.5, "`training.rescale` must be at least 0 but is -0.5"),
        ("training.rescale", 50, "`training.rescale` must be at most 1 but is 50"),
        ("irp.training.rescale", 0.5, "`irp.training.rescale` must be 0.0 in rounds of IRP"),
        ("training.reparameterization", "signin", "must be 'none' or 'sign_in' but is \"signin\""),
        ("irp.training.reparameterization", "sign_in", "must be 'none' in rounds of IRP"),
    ],
)
def test_wrong_values(path: str, value: object, message: str) -> None:
    """Each names its place, its value and the rule."""
    with pytest.raises(SpecError) as caught:
        load_spec(SPEC, overrides={path: value})

    assert message in str(caught.value)


def test_rounds_of_irp_keep_the_published_recipe() -> None:
    """They take every field of `training` but those that act under masks, and the origin of those says so."""
    loaded = load_spec(SPEC, overrides={"training.rescale": 0.5, "training.lr": 0.3})
    resolved = resolve(loaded.spec, MACHINE)
    assert resolved.irp.training is not None
    sources = provenance(resolved.model_dump(mode="json"), loaded.document)

    assert (0.5, 0.0) == (resolved.training.rescale, resolved.irp.training.rescale)
    assert 0.3 == resolved.irp.training.lr
    assert ("default", "as `training`") == (sources["irp.training.rescale"], sources["irp.training.lr"])


def test_trained_weights_are_not_rescaled(tmp_path: Path) -> None:
    """Their scale has been learned."""
    text = (
        f"{{model: {{name: lenet, initialization: {{file: {tmp_path}/w.safetensors}}}}, dataset: digits, method: igq}}"
    )
    spec = load_spec(text, overrides={"training.rescale": 0.5}).spec

    with pytest.raises(InvalidValue, match="scales initial weights, but the network starts from trained weights"):
        compile_plan(resolve(spec, MACHINE), "x")
