"""Evidence for a criterion: a network at initialization and, on request, training examples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import cycle
from typing import Any, Literal, TypeAlias, TypeVar, cast

from autosparse.core.inputs import Inputs, examples_in, map_tensors, tensors_in
from autosparse.core.torch_compat.function_overrides import (
    averaging,
    in_float64,
    proportional,
    twice_differentiable,
)
from autosparse.core.torch_compat.functional_call import Call, with_state
from autosparse.core.weights import Layer, Tensors, full_masks, prunable_weights
from autosparse.errors import OwnCodeError, UsageError
from autosparse.foreign_code import foreign_code
from autosparse.lazy_torch import torch

Batch: TypeAlias = "tuple[Any, Any]"
"""Inputs, and the loss's arguments in addition to the outputs: mostly labels."""

Mode: TypeAlias = Literal["training", "evaluation"]
"""The mode of a forward pass: BatchNorm on batch statistics with dropout active, or neither."""

Result = TypeVar("Result")
_DRAWN = 1024  # examples for training without a stream


def mean_cross_entropy(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy, the default loss of criteria.

    Args:
        outputs: Logits, float `[batch, classes, ...]`.
        labels: Class numbers, int64 `[batch, ...]`.

    Returns:
        Scalar mean over the batch.
    """
    return torch.nn.functional.cross_entropy(outputs, labels)


@dataclass(frozen=True)
class Scorer:
    """Trained scorer.

    Attributes:
        predict: Function of evidence and a number of images that returns scores of every weight, with gradients over
            that many images.
        select: Selection that tuning chose together with the scorer, if any.
    """

    predict: Callable[[Evidence, int], Tensors]
    select: Callable[[Tensors, Mapping[str, int], Evidence], Tensors] | None = None


@dataclass(frozen=True)
class Evidence:
    """Network at initialization under its present masks: the input of every criterion.

    Attributes:
        model: Network; no method changes it.
        weights: Prunable weights times their masks, name -> tensor in model order.
        masks: Masks of these weights: 1 present, 0 pruned.
        layers: Shapes and kinds of the layers, in model order.
        draw: Function of a number of images that returns training batches `(inputs, labels)`.
        generator: Source of all random draws, on the CPU.
        example: Function that returns inputs of which only shapes and kinds count.
        objective: Function `(outputs, labels)` that returns the mean loss of a batch as a scalar.
        scorer: Trained scorer, for the criterion `learned`.
        survival: Order of the weights that IRP, a search or a ticket left, for the criteria `irp` and `order`.
        stream: Function that starts an endless iterator of training batches.
        trained: Tensors that differ from the model's parameters and buffers, by name.
        note: Function that takes a sentence about a deviation from the request.
    """

    model: torch.nn.Module
    weights: Tensors
    masks: Tensors
    layers: tuple[Layer, ...]
    draw: Callable[[int], Sequence[Batch]]
    generator: torch.Generator
    example: Callable[[], Inputs]
    objective: Callable[[Any, Any], torch.Tensor] = mean_cross_entropy
    scorer: Scorer | None = None
    survival: Tensors | None = None
    stream: Callable[[], Iterator[Batch]] | None = None
    trained: Mapping[str, torch.Tensor] = field(default_factory=dict)
    note: Callable[[str], None] = lambda text: None

    @classmethod
    def dense(
        cls,
        model: torch.nn.Module,
        layers: tuple[Layer, ...],
        draw: Callable[[int], Sequence[Batch]],
        generator: torch.Generator,
        example: Callable[[], Inputs],
        **others: Any,
    ) -> Evidence:
        """Return the evidence about a network under full masks; `others` are further fields.

        Args:
            model: Network.
            layers: Its layers, from `describe_layers`.
            draw: Function of a number of images that returns training batches.
            generator: Source of all random draws, on the CPU.
            example: Function that returns example inputs.
            **others: Further fields.

        Returns:
            The evidence at the model's weights, detached.
        """
        weights = {name: weight.detach() for name, weight in prunable_weights(model).items()}
        return cls(model, weights, full_masks(weights), layers, draw, generator, example, **others)

    @property
    def layers_by_name(self) -> dict[str, Layer]:
        return {layer.name: layer for layer in self.layers}

    @property
    def initial(self) -> Tensors:
        """The prunable weights without masks: at initialization, or as they are `trained`.

        A score that multiplies by them instead of by `weights` also shows the effect of restoring a pruned weight.
        """
        weights = prunable_weights(self.model)
        return {name: self.trained.get(name, weight).detach() for name, weight in weights.items()}

    @property
    def others(self) -> Tensors:
        """The parameters that train but are not prunable, such as biases."""
        parameters = self.model.named_parameters()
        trains = {name for name, part in parameters if part.requires_grad and part.is_floating_point()}
        return {name: part for name, part in self._rest().items() if name in trains}

    def masked(self, masks: Mapping[str, torch.Tensor]) -> Evidence:
        """Return the same network under other masks.

        Args:
            masks: Weight -> bool tensor of its shape, for every prunable weight.

        Returns:
            Evidence whose weights are the initial ones times these masks.
        """
        weights = {name: weight * masks[name] for name, weight in self.initial.items()}
        return replace(self, masks=dict(masks), weights=weights)

    def training_batches(self) -> Iterator[Batch]:
        """Return endless training batches, the same at every call; without a stream, batches drawn for scores.

        Returns:
            Iterator of `(inputs, labels)`.
        """
        return cycle(self.draw(_DRAWN)) if self.stream is None else self.stream()

    def state(self) -> Tensors:
        """Return a copy of every parameter and buffer, by name; weights are unmasked.

        Returns:
            Name -> tensor.
        """
        return {**{name: weight.clone() for name, weight in self.initial.items()}, **self._rest()}

    def loss(
        self,
        weights: Tensors,
        batch: Batch,
        temperature: float = 1.0,
        *,
        mode: Mode = "training",
        twice: bool = False,
        work: Callable[[torch.Tensor], Any] = lambda loss: loss,
    ) -> Any:
        """Return the objective of one batch.

        Args:
            weights: Tensors that replace the parameters of these names, prunable or not.
            batch: Inputs and labels.
            temperature: Divisor of the outputs.
            mode: Mode of the forward pass, `training` or `evaluation`.
            twice: Make the loss twice differentiable, which takes more memory for attention.
            work: Function applied to the loss while the network still has `weights`.

        Returns:
            The result of `work`, by default the scalar loss.

        Raises:
            UsageError: If the objective rejects the outputs, or the loss is not a scalar or does not depend on the
                weights.
        """
        inputs, labels = batch

        def run(call: Call) -> Any:
            loss = self._objective(call(inputs), labels, temperature)
            if not loss.requires_grad and any(weight.requires_grad for weight in weights.values()):
                raise UsageError(
                    "the loss does not depend on the prunable weights",
                    "compute it from `outputs`, without detaching them",
                )
            return work(loss)

        with twice_differentiable() if twice else nullcontext():
            # A recomputation in the backward pass would run without the substitutes.
            state, training = {**self._rest(), **weights}, mode == "training"
            return with_state(self.model, state, run, training=training, recompute=not twice)

    def outputs(self, weights: Tensors, inputs: Inputs, *, mode: Mode = "evaluation") -> Any:
        """Return the outputs of the network, without gradients.

        Args:
            weights: Tensors that replace the parameters of these names.
            inputs: Inputs of one batch.
            mode: Mode of the forward pass, `training` or `evaluation`.

        Returns:
            The outputs as the network returns them.
        """
        with torch.no_grad():
            return with_state(
                self.model, {**self._rest(), **weights}, lambda call: call(inputs), training=mode == "training"
            )

    def with_statistics(self, batches: Iterable[Inputs]) -> Evidence:
        """Return the network with running statistics of BatchNorm from some inputs, the mean over the batches.

        Args:
            batches: Inputs, batch by batch; each passes once through the network in training mode.

        Returns:
            Evidence whose `trained` tensors include the statistics; the same evidence without BatchNorm.
        """
        state = {**self._rest(), **self.weights}
        names = [name for name in state if name.endswith(("running_mean", "running_var"))]
        if not names:
            return self
        for number, inputs in enumerate(batches, start=1):

            def run(call: Call, inputs: Inputs = inputs) -> Any:
                return call(inputs)

            with torch.no_grad(), averaging(number):
                with_state(self.model, state, run, training=True)
        return replace(self, trained={**self.trained, **{name: state[name] for name in names}})

    def differentiate(
        self, state: Tensors, batch: Batch, leaves: Sequence[torch.Tensor], forward: AbstractContextManager[object]
    ) -> None:
        """Add the gradient of one batch's objective to the `grad` of `leaves`, in training mode and the given state.

        Args:
            state: Every parameter and buffer by name.
            batch: Inputs and labels.
            leaves: Tensors of the state that take gradients.
            forward: Context of the forward pass, such as autocast.

        Raises:
            UsageError: If the loss is not a scalar or does not depend on the network.
        """
        inputs, labels = batch

        def run(call: Call) -> None:
            with forward:
                outputs = call(inputs)
                if isinstance(outputs, torch.Tensor) and outputs.is_floating_point() and outputs.itemsize < 4:
                    outputs = outputs.float()
                loss = self._objective(outputs, labels)
            if not loss.requires_grad:
                raise UsageError(
                    "the loss does not depend on the network", "compute it from `outputs`, without detaching them"
                )
            loss.backward(inputs=leaves)

        with_state(self.model, state, run, training=True)

    def _objective(self, outputs: Any, labels: Any, temperature: float = 1.0) -> torch.Tensor:
        if self.objective is mean_cross_entropy and isinstance(outputs, Mapping):
            # Hugging Face networks compute a loss if given labels, and call their outputs logits.
            if temperature == 1 and isinstance(outputs.get("loss"), torch.Tensor):
                return cast("torch.Tensor", outputs["loss"])
            outputs = outputs.get("logits", outputs)
        if not isinstance(outputs, torch.Tensor) and (temperature != 1 or self.objective is mean_cross_entropy):
            what = "cross-entropy takes" if temperature == 1 else f"a temperature of {temperature:g} divides"
            raise UsageError(
                f"the network returns {type(outputs).__name__}, not the tensor of logits that {what}",
                "give a loss of your own, `(outputs, y) -> scalar tensor`, and set a criterion's temperature to 1",
            )
        if labels is None and self.objective is mean_cross_entropy:
            raise UsageError(
                "the batches have no labels, which the default loss compares outputs with",
                "give pairs `(x, y)`, or mappings with `labels`, or a `loss` of your own",
            )
        with foreign_code("the loss"):
            loss = self.objective(outputs if temperature == 1 else outputs / temperature, labels)
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            shape = f" of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else ""
            raise UsageError(
                f"the loss must be one number, as a tensor, but is {type(loss).__name__}{shape}",
                "return the mean over the batch",
            )
        return loss

    def gradient(
        self, weights: Tensors, batches: Sequence[Batch], temperature: float = 1.0, *, mode: Mode = "training"
    ) -> Tensors:
        """Return the gradient of the mean loss over the batches, with the memory of one.

        Args:
            weights: Tensors to differentiate by, name -> tensor; they replace the parameters of these names.
            batches: Batches of inputs and labels.
            temperature: Divisor of the outputs.
            mode: Mode of the forward pass, `training` or `evaluation`.

        Returns:
            Name -> gradient of the tensor's shape.
        """
        return self._sum_over(batches, weights, gradient_of, temperature, mode=mode)

    def hessian_times(
        self,
        vector: Tensors,
        weights: Tensors,
        batches: Sequence[Batch],
        temperature: float = 1.0,
        *,
        mode: Mode = "training",
    ) -> Tensors:
        """Return the Hessian of the mean loss over the batches times a vector, with the memory of one batch.

        Args:
            vector: Vector, name -> tensor of the weight's shape.
            weights: Tensors to differentiate by, name -> tensor; they replace the parameters of these names.
            batches: Batches of inputs and labels.
            temperature: Divisor of the outputs.
            mode: Mode of the forward pass, `training` or `evaluation`.

        Returns:
            Name -> product of the weight's shape.
        """

        def times_vector(loss: torch.Tensor, leaves: Tensors) -> Tensors:
            gradient = gradient_of(loss, leaves, differentiable=True)
            inner = torch.stack([(part * vector[name]).sum() for name, part in gradient.items()]).sum()
            return gradient_of(inner, leaves)

        return self._sum_over(batches, weights, times_vector, temperature, mode=mode, twice=True)

    def _sum_over(
        self,
        batches: Sequence[Batch],
        weights: Tensors,
        work: Callable[[torch.Tensor, Tensors], Tensors],
        temperature: float,
        *,
        mode: Mode,
        twice: bool = False,
    ) -> Tensors:
        # The sum over batches of `work` applied to a batch's share of the mean loss and the leaves.
        leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
        total = {name: torch.zeros_like(weight) for name, weight in leaves.items()}
        images = sum(examples_in(inputs) for inputs, _ in batches)
        for batch in batches:
            share = examples_in(batch[0]) / images

            def part_of(loss: torch.Tensor, share: float = share) -> Tensors:
                return work(loss * share, leaves)

            for name, part in self.loss(leaves, batch, temperature, mode=mode, twice=twice, work=part_of).items():
                total[name] += part
        return total

    def flow_gradient(
        self, leaves: Tensors, *, paths_only: bool = False, shares: Sequence[torch.Tensor] | None = None
    ) -> tuple[torch.Tensor, Tensors]:
        """Return the flow of the linear positive network (SynFlow, eq. 2) and its gradient in `leaves`, in their dtype.

        The flow is the sum of the outputs on inputs of ones; integer inputs keep the first example's values. Tensors
        outside `leaves` enter as absolute values, BatchNorm by running statistics. With `paths_only` biases are zero,
        scales and embeddings one and other layers `proportional`: all output stems from the input. A network that does
        not run in float64 runs in float32, and `note` records it.

        Args:
            leaves: Absolute weights that require gradients, name -> tensor.
            paths_only: Count paths: only `leaves` scale the flow.
            shares: Factors of the outputs in the sum, a tensor for each floating-point output; by default ones.

        Returns:
            The flow, a scalar, and name -> its gradient of the weight's shape.

        Raises:
            UsageError: If the network returns no floating-point tensor.
        """

        def gradient(outputs: list[torch.Tensor]) -> tuple[torch.Tensor, Tensors]:
            if shares is not None:
                outputs = [part * share.to(part.dtype) for part, share in zip(outputs, shares, strict=True)]
            sums = [part.sum() for part in outputs]
            value = sums[0] if len(sums) == 1 else torch.stack(sums).sum()
            return value, gradient_of(value, leaves)

        return self._flow(leaves, self.example(), torch.ones_like, gradient, paths_only)

    def path_outputs(self, weights: Tensors, inputs: Inputs, signs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return the flow of squared inputs through the paths that are active in the network, output by output.

        The network is that of `flow_gradient` with `paths_only`, but activations pass where the network's own are
        positive.

        Args:
            weights: Non-negative weights, name -> tensor, in the dtype of the flow.
            inputs: Inputs of one batch; integers stay unchanged.
            signs: Where the inputs of the network's activations are positive, call by call, from `recording`.

        Returns:
            The floating-point outputs.

        Raises:
            UsageError: If the network returns none, or calls other activations than for `signs`.
        """
        with torch.no_grad():
            return self._flow(weights, inputs, torch.square, lambda outputs: outputs, True, signs)

    def _flow(
        self,
        leaves: Tensors,
        inputs: Inputs,
        change: Callable[[torch.Tensor], torch.Tensor],
        work: Callable[[list[torch.Tensor]], Result],
        paths_only: bool,
        signs: Sequence[torch.Tensor] | None = None,
    ) -> Result:
        # The result of `work` on the outputs of the linear positive network, in float32 if float64 fails.
        precision = next(iter(leaves.values())).dtype
        given = (leaves, inputs, change, work, paths_only, signs)
        try:
            return self._flow_in(precision, *given)
        except OwnCodeError as error:
            if precision is not torch.float64:
                raise
            result = self._flow_in(torch.float32, *given)
            self.note(f"the network does not run in float64, so its paths are followed in float32 ({error.message})")
            return result

    def _flow_in(
        self,
        precision: torch.dtype,
        leaves: Tensors,
        inputs: Inputs,
        change: Callable[[torch.Tensor], torch.Tensor],
        work: Callable[[list[torch.Tensor]], Result],
        paths_only: bool,
        signs: Sequence[torch.Tensor] | None,
    ) -> Result:
        rest = {
            name: _positive(name, tensor, paths_only).to(precision) if tensor.is_floating_point() else tensor
            for name, tensor in self._rest().items()
        }
        state = {**rest, **{name: leaf.to(precision) for name, leaf in leaves.items()}}
        changed = map_tensors(partial(_changed, change=change, precision=precision), inputs)

        def run(call: Call) -> Result:
            return work(floats_of(call(changed)))

        with ExitStack() as stack:
            if precision is torch.float64:
                stack.enter_context(in_float64(self.model))
            if paths_only:
                real = [state[name] for name in leaves]
                stack.enter_context(proportional(real, None if signs is None else iter(signs)))
            # A recomputation in the backward pass would run without the substitutes.
            return with_state(self.model, state, run, training=False, recompute=False)

    def _rest(self) -> Tensors:
        # Copies: BatchNorm in training mode would otherwise update the model's running statistics. Not the
        # state dict: it holds tied weights twice and omits non-persistent buffers.
        tensors = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        # By identity: a layer's weight that is tied to an embedding has the embedding's name here.
        prunable = {id(weight) for weight in prunable_weights(self.model).values()}
        return {
            name: self.trained.get(name, tensor).detach().clone()
            for name, tensor in tensors.items()
            if id(tensor) not in prunable
        }


def gradient_of(value: torch.Tensor, leaves: Tensors, *, differentiable: bool = False) -> Tensors:
    """Return the gradient of a scalar in named tensors: zero for those that it does not depend on.

    Args:
        value: Scalar.
        leaves: Tensors to differentiate by.
        differentiable: Make the gradient differentiable.

    Returns:
        Name -> gradient of the tensor's shape.
    """
    if not value.requires_grad:  # such as the gradient of a loss linear in the weights
        return {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    parts = torch.autograd.grad(
        value, list(leaves.values()), create_graph=differentiable, allow_unused=True, materialize_grads=True
    )
    return dict(zip(leaves, parts, strict=True))


def floats_of(outputs: Any) -> list[torch.Tensor]:
    """Return the floating-point tensors that a network returns, without a loss that it computes itself.

    Args:
        outputs: Outputs of the network.

    Returns:
        At least one tensor.

    Raises:
        UsageError: If there is none.
    """
    named = isinstance(outputs, Mapping) and len(outputs) > 1
    every = tensors_in({name: part for name, part in outputs.items() if name != "loss"} if named else outputs)
    if floats := [part for part in every if part.is_floating_point()]:
        return floats
    raise UsageError(
        f"the network returns {type(outputs).__name__} without a tensor whose flow could be measured",
        "return a tensor, or tensors in a tuple, list or mapping",
    )


def _changed(
    tensor: torch.Tensor, change: Callable[[torch.Tensor], torch.Tensor], precision: torch.dtype
) -> torch.Tensor:
    if tensor.is_floating_point():
        return change(tensor.to(precision, memory_format=torch.contiguous_format))
    # Bytes are pixels: zeros would carry no signal. Masks and other integers (tokens, lengths) are positions.
    return torch.ones_like(tensor) if tensor.dtype is torch.uint8 else tensor


def _positive(name: str, tensor: torch.Tensor, paths_only: bool) -> torch.Tensor:
    if paths_only and name.endswith(("bias", "running_mean")):
        return torch.zeros_like(tensor)
    if paths_only and tensor.ndim == 1:
        return torch.ones_like(tensor)
    return tensor.detach().abs()
