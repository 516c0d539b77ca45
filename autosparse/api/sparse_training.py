"""`sparse_training`: masks that change while a loop of one's own trains."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from autosparse.api.hold import Hold, hold_zero, unwrap
from autosparse.api.masks import Masks
from autosparse.api.prune import Loss, gather, isolated, prune, pruning_of, request_of
from autosparse.core.layer_kinds import Kind
from autosparse.core.torch_compat.autocast_state import autocast_suspended
from autosparse.core.torch_compat.random_state import seed_of
from autosparse.core.training.updates import Change, MaskUpdates, Moment
from autosparse.core.weights import Tensors, full_masks
from autosparse.errors import UsageError
from autosparse.lazy_torch import torch
from autosparse.pretrained import DEFAULT
from autosparse.text import quoted


class SparseTraining(AbstractContextManager["SparseTraining"]):
    """Masks that change at steps of an optimizer, until `remove()`; in a `with` statement, until the block ends.

    Attributes:
        step: Number of optimizer steps so far.
        changes: Changes of the masks so far: the step, the weights kept from it on, and the grown ones among them.
    """

    def __init__(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, masks: Masks, updates: MaskUpdates,
        steps: int, generator: torch.Generator, device: torch.device,
    ) -> None:  # fmt: skip
        self.step = 0
        self.changes: list[Change] = []
        self._model, self._masks, self._updates = model, masks, updates
        self._steps, self._generator, self._device = steps, generator, device
        self._weights = masks.weights_in(model)
        # A checkpoint of the model may be loaded before its masks.
        self._hold: Hold = hold_zero(model, self._weights, masks, [optimizer], on_loading=False)
        masks.apply(model)
        self._handles = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]
        self._watch()

    @property
    def masks(self) -> Masks:
        """The present masks."""
        return self._masks

    def remove(self) -> None:
        """End the training's changes and the hold: pruned weights train again from zero."""
        for handle in self._handles:
            handle.remove()
        self._hold.remove()

    def __exit__(self, *error: object) -> None:
        self.remove()

    def state_dict(self) -> dict[str, Any]:
        """Return the masks, the number of steps and the state of random draws, for a checkpoint.

        Returns:
            Name -> value, all of which `torch.load(..., weights_only=True)` reads.
        """
        changes = [[change.step, change.kept, change.grown] for change in self.changes]
        masks = {name: mask.cpu() for name, mask in self._masks.items()}
        return {"step": self.step, "changes": changes, "masks": masks, "generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint; load the model and the optimizer as well, in any order.

        Args:
            state: Value of `state_dict`.

        Raises:
            UsageError: If the masks do not fit the model.
        """
        self._set({name: mask.to(self._masks[name].device) for name, mask in state["masks"].items()})
        self.step, self.changes = state["step"], [Change(*change) for change in state["changes"]]
        self._generator.set_state(state["generator"])
        self._watch()

    def _before(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if not (self._updates.replaces_step and self._updates.due(self.step, self._steps)):
            return
        self._change(optimizer)
        for group in optimizer.param_groups:  # an update takes the place of this step
            for parameter in group["params"]:
                parameter.grad = None

    def _after(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if not self._updates.replaces_step and self._updates.due(self.step, self._steps):
            self._hold.prune(self._masks, self._weights)  # masked weights took part in a step with their gradients
            self._change(optimizer)
        self.step += 1
        self._watch()

    def _watch(self) -> None:
        # Gradients of masked weights are wanted by the step that changes masks alone.
        self._hold.let_gradients_pass(passing=self._updates.due(self.step, self._steps))

    def _change(self, optimizer: torch.optim.Optimizer) -> None:
        values, gradients = (
            {name: tensor.detach().to(self._device, torch.float32) for name, tensor in some.items()}
            for some in (self._weights, self._gradients())
        )
        masks = {name: mask.to(self._device) for name, mask in self._masks.items()}
        others = {name: part.detach() for name, part in self._model.state_dict().items()}
        moment = Moment(self.step, self._steps, values, gradients, masks, lambda: {**others, **values})
        with torch.enable_grad(), autocast_suspended():
            made = self._updates.change(moment)
        grown = {name: mask & ~masks[name] for name, mask in made.items()}
        self._set({name: mask.to(self._masks[name].device) for name, mask in made.items()})
        for name, weight in self._weights.items():
            for value in optimizer.state.get(weight, {}).values():
                if isinstance(value, torch.Tensor) and value.shape == weight.shape:
                    value.masked_fill_(grown[name].to(value.device), 0)
        count = sum(int(mask.count_nonzero()) for mask in grown.values())
        self.changes.append(Change(self.step, self._masks.kept, count))

    def _gradients(self) -> dict[str, torch.Tensor]:
        gradients = {name: weight.grad for name, weight in self._weights.items() if weight.grad is not None}
        if self._updates.replaces_step and gradients.keys() != self._weights.keys():
            missing = next(name for name in self._weights if name not in gradients)
            raise UsageError(
                f"{missing} has no gradient before `optimizer.step()`, and growth needs one",
                "call `backward()` before the step, without a closure, and leave every masked weight trainable",
            )
        return gradients

    def _set(self, masks: Tensors) -> None:
        self._masks = self._masks.replaced(masks)
        self._hold.prune(self._masks, self._weights)


def sparse_training(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    steps: int,
    sparsity: float,
    method: str | Mapping[str, Any] = "rigl",
    batches: Iterable[Any] | None = None,
    loss: Loss | None = None,
    seed: int = 0,
    scorer: str | Path | None = None,
    prunable: Mapping[str, Kind] | None = None,
    exclude: Sequence[str] = (),
) -> SparseTraining:
    """Change the masks of a model while the optimizer trains it, and keep pruned weights zero.

    Dynamic sparse training (RigL, SET) begins with the method's masks at `sparsity`; gradual, alternating and iterative
    pruning begin dense and end there. Masks change inside `optimizer.step()`; the guarantees of `Masks.hold` hold for
    the present masks. With growth by gradients (RigL) an update takes the place of a step: it changes masks, sets all
    gradients to None and leaves the weights as they are. Optimizer states of grown weights start from zero. Under
    DistributedDataParallel all processes get the same masks.

    Args:
        model: Network at initialization, also compiled or parallel.
        optimizer: Optimizer of torch.optim with all masked weights; called once per step, without a closure.
        steps: Number of optimizer steps of the whole training.
        sparsity: Fraction of the prunable weights that are zero at the end, in [0, 1).
        method: Preset such as `rigl`, `set`, `gmp` or `ac_dc`, or a mapping as in a spec with `updates`.
        batches: Batches for the masks to start from, if their criterion needs some; see `prune`. Growth by paths
            (PWMPR) needs one, for the input shape.
        loss: Loss of that criterion; see `prune`.
        seed: Seed of the masks to start from and of random growth.
        scorer: Scorer of the criterion `learned`; see `prune`.
        prunable: Weights of custom layers; see `prune`.
        exclude: Weights to leave dense; see `prune`.

    Returns:
        A handle: `masks` are the present ones, `state_dict()` is for checkpoints, `remove()` ends the hold.

    Raises:
        UsageError: If an argument is invalid, the method changes no masks, or the optimizer is not of this model.

    Examples:
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> x, y = torch.rand(16, 8), torch.arange(16) % 4
        >>> with sparse_training(model, optimizer, steps=20, sparsity=0.75, method="rigl") as training:
        ...     for _ in range(20):
        ...         optimizer.zero_grad()
        ...         torch.nn.functional.cross_entropy(model(x), y).backward()
        ...         optimizer.step()
        >>> training.masks
        Masks(2 weights, 96 of 384 kept: sparsity 0.75)

    References:
        The paper of each rule is in its docstring: `autosparse list updates`.
    """
    request = request_of(method, sparsity, seed)
    if not request.method.updates_masks:
        raise UsageError(
            f"method `{request.method.name}` keeps its masks during training",
            "`prune` makes them; `sparse_training` takes methods with `updates`, such as `rigl`",
        )
    if request.method.keeps_weights:
        raise UsageError(
            f"method `{request.method.name}` continues from the weights of its search, which a loop of yours has not",
            "`rewind: true`, or a spec in `autosparse run`",
        )
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise UsageError(
            f"`steps` must be a whole number above 0 but is {quoted(steps)}", "such as epochs * len(loader)"
        )
    plain = unwrap(model)
    generator = torch.Generator().manual_seed(seed_of("updates", seed))
    with isolated(plain, seed):
        evidence = gather(plain, batches, loss, request, scorer or DEFAULT, prunable, exclude)
        if request.method.updates.entry.facts.get("needs_example"):
            evidence.example()  # raises without batches, before the first step
        pruning = pruning_of(evidence, request.method, sparsity)
        rule: Callable[..., MaskUpdates] = request.method.updates.entry.function
        updates = rule(pruning, generator, **request.method.updates.options())
    if request.method.starts_dense:
        masks = Masks(full_masks(evidence.weights), model=plain)
    else:
        start = {**request.method.model_dump(), "updates": "none", "name": "own"}
        masks = prune(
            model, batches, sparsity, method=start, loss=loss, seed=seed, scorer=scorer, prunable=prunable,
            exclude=exclude,
        )  # fmt: skip
    device = next(iter(evidence.weights.values())).device
    return SparseTraining(plain, optimizer, masks, updates, steps, generator, device)
