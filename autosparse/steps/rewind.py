"""rewind: the state that rounds of IRP go back to, some steps into training."""

from __future__ import annotations

from typing import Any

from autosparse.core.training.loop import Recipe, train
from autosparse.core.weights import state_of
from autosparse.errors import Diverged
from autosparse.steps import operations
from autosparse.steps.work import Work, generator, load_network


@operations.register(version=1)
def rewind(work: Work, *, training: dict[str, Any], steps: int, seed: int) -> None:
    """Parameters and buffers of the dense network after `steps` steps of the rounds' recipe, on their batches.

    Late rewinding: Frankle et al. 2020, "Linear mode connectivity and the lottery ticket hypothesis".
    """
    model = load_network(work)
    train(
        model,
        work.images("train"),
        Recipe(**training),
        generator("irp", seed),
        end=steps,
        observe=work.observe,
    )
    state = state_of(model)
    if broken := [name for name, tensor in state.items() if not tensor.isfinite().all()]:
        raise Diverged(f"training diverged: {broken[0]} is not finite", "lower `irp.training.lr`")
    work.output.write_tensors("state", state)
