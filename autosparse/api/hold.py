"""Unwrapping of networks, and masked weights that stay zero through training and loading."""

from __future__ import annotations

import copy
import types
import weakref
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from importlib import import_module
from typing import Any, TypeAlias

from autosparse.api.masked_weights import COMPILED, home_of, loses_zeros, older_norm_at, parametrization_at, weight_at
from autosparse.borders import in_short
from autosparse.errors import UsageError
from autosparse.lazy_torch import torch
from autosparse.text import with_article


class Hold(AbstractContextManager["Hold"]):
    """Hold that is in force until `remove()`; in a `with` statement, until the block ends.

    Args:
        zeros: Name of each held weight -> its pruned positions.
        handles: Handles of the hooks.
    """

    def __init__(self, zeros: Mapping[str, _Zero], handles: Sequence[Any]) -> None:
        self._zeros = zeros
        self._handles = handles

    def remove(self) -> None:
        """Release the weights, also in copies of the model: they train again from zero."""
        for handle in self._handles:
            handle.remove()
        for zero in self._zeros.values():
            zero.release()

    def prune(self, masks: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]) -> None:
        """Hold other positions from now on.

        Args:
            masks: Name of each held weight -> bool tensor of its shape, True for kept weights.
            weights: Name -> weight, whose pruned positions become zero.
        """
        for name, zero in self._zeros.items():
            zero.pruned = ~masks[name]
            zero(weights[name])

    def let_gradients_pass(self, *, passing: bool) -> None:
        """Let the gradients of pruned weights pass, or zero them again.

        Args:
            passing: True to let them pass.
        """
        for zero in self._zeros.values():
            zero.passes = passing

    def __exit__(self, *error: object) -> None:
        self.remove()


_IDLE: list[Any] = []
"""Handles of hooks on optimizers whose models were deleted; the next hold removes them."""


def hold_zero(
    model: torch.nn.Module,
    weights: Mapping[str, torch.nn.Parameter],
    masks: Mapping[str, torch.Tensor],
    optimizers: Sequence[torch.optim.Optimizer],
    *,
    on_loading: bool = True,
) -> Hold:
    """Install hooks that keep `weights` zero where `masks` prune; see `Masks.hold`.

    Several kinds of hooks, because optimizers differ in their order of operations.

    Args:
        model: Unwrapped network with the weights.
        weights: Masked parameters by name.
        masks: Name -> bool tensor of the weight's shape, True for kept weights.
        optimizers: Optimizers that train the network.
        on_loading: Whether to zero weights as soon as a state is loaded, or else before the next forward pass.

    Returns:
        A handle that removes the hooks.

    Raises:
        UsageError: If no optimizer is given, an object is no optimizer of the model, or no optimizer has a masked
            weight although some train.
    """
    if not optimizers:
        raise UsageError("`hold` needs the optimizer that trains the model", "write `masks.hold(optimizer)`")
    while _IDLE:
        _IDLE.pop().remove()
    _check(model, weights, optimizers)
    zeros = {id(weight): _Zero(~masks[name].to(weight.device)) for name, weight in weights.items()}
    homes = {
        (module, name): zeros[id(parameter)]
        for module in model.modules()
        for name, parameter in module._parameters.items()
        # Every module with the weight: loading a state writes a tied weight once per module.
        if id(parameter) in zeros
    }
    held = [(name, zeros[id(weight)]) for name, weight in weights.items()]
    for name, zero in held:  # a parametrized weight may become a parameter
        home, leaf = home_of(model, name)
        if home is not None:
            homes.setdefault((home, leaf), zero)
    step = _AfterStep([(weakref.ref(module), name, zero) for (module, name), zero in homes.items()])
    step.handle = import_module("torch.optim.optimizer").register_optimizer_step_post_hook(step)
    handles: list[Any] = [
        step.handle,
        *(
            module.register_load_state_dict_post_hook(_Zeroing([(name, zero)]))
            for (module, name), zero in homes.items()
            if on_loading
        ),
        model.register_forward_pre_hook(_Zeroing(held, before_forward=True)),
        model.register_state_dict_pre_hook(_Zeroing(held)),
    ]
    for optimizer in optimizers:
        step.zero_state(optimizer)
        if hasattr(optimizer, "_optimizer_step_post_hooks"):
            if not on_loading:
                continue
            handles.append(optimizer.register_load_state_dict_post_hook(step.zero_state))
        else:
            handles.append(_Observed(optimizer, step))
    for weight in weights.values():
        zeros[id(weight)].mask_gradient(weight)
    return Hold(dict(held), handles)


def unwrap(model: torch.nn.Module) -> torch.nn.Module:
    """Return the network inside torch.compile, DataParallel and AveragedModel.

    Args:
        model: Network, wrapped or not.

    Returns:
        The innermost network.

    Raises:
        UsageError: If the object is not a `torch.nn.Module`.

    Examples:
        >>> network = torch.nn.Linear(2, 1)
        >>> unwrap(torch.nn.DataParallel(network)) is network
        True
    """
    kind = type(model).__name__
    if not isinstance(model, torch.nn.Module):
        raise UsageError(
            f"the model must be a torch.nn.Module but is {with_article(kind)}",
            "pass the network itself",
        )
    parallel = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
    while True:
        if isinstance(model, (*parallel, torch.optim.swa_utils.AveragedModel)):
            model = model.module
        elif COMPILED in model._modules:
            model = model.get_submodule(COMPILED)
        else:
            return model


def named_parameters(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return all parameters of a network by every name, tied ones too.

    Args:
        model: Unwrapped network.

    Returns:
        Name -> parameter, without the prefixes of compiled parts.
    """
    return {
        name.replace(f"{COMPILED}.", ""): parameter
        for name, parameter in model.named_parameters(remove_duplicate=False)
    }


def copy_of(model: torch.nn.Module) -> torch.nn.Module:
    """Return a deep copy of a network.

    Args:
        model: Unwrapped network.

    Returns:
        The copy, without compiled parts.

    Raises:
        UsageError: If `copy.deepcopy` refuses a module.
    """
    try:
        with _detaching():
            duplicate = copy.deepcopy(model)
    except Exception as error:  # any error of the modules inside
        raise UsageError(
            f"the model cannot be copied, and autosparse never changes the original: {in_short(error)}",
            "remove from its modules what `copy.deepcopy` refuses",
        ) from error
    for module in [*duplicate.modules()]:
        for name, child in module._modules.items():
            if child is not None and COMPILED in child._modules:
                module._modules[name] = child._modules[COMPILED]
    from autosparse.core.torch_compat.narrow_stride_fix import avoid_narrow_strides

    return avoid_narrow_strides(duplicate)


class _Zero:
    """Pruned positions of one weight, on any device; copies of a model share them."""

    def __init__(self, pruned: torch.Tensor) -> None:
        self.pruned = pruned
        self.held = True
        self.passes = False
        self._handles: list[Any] = []
        self._tensors: dict[int, int] = {}
        self._sound: tuple[int, int] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> _Zero:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {
            "pruned": self.pruned,
            "held": self.held,
            "passes": False,
            "_handles": [],
            "_tensors": {},
            "_sound": None,
        }

    def __call__(self, weight: torch.Tensor) -> None:
        if self.held:
            with torch.no_grad():
                weight.masked_fill_(self._pruned_on(weight), 0)  # a product would keep NaN and infinity

    def mask_gradient(self, weight: torch.nn.Parameter) -> None:
        """Zero the gradients of the pruned weights of a trainable parameter from now on."""
        if not (self.held and weight.requires_grad):
            return
        hooks: Any = weight._backward_hooks
        if self._masked not in (hooks or {}).values():
            self._handles.append(weight.register_hook(self._masked))
        elif self._tensors.get(id(weight)) != weight._cdata:
            weight._backward_hooks = hooks  # `swap_tensors` keeps the hooks of Python, and drops those of C++
        self._tensors[id(weight)] = weight._cdata

    def check(self, model: torch.nn.Module, name: str) -> None:
        """Refuse a new parametrization of the weight that does not keep zeros."""
        parts, older = parametrization_at(model, name), older_norm_at(model, name)
        known = (id(older), 1) if older is not None else None if parts is None else (id(parts), len(parts))
        if not self.held or known in (None, self._sound):
            return
        if problem := loses_zeros(model, name, self.pruned):
            raise UsageError(
                f"the masks do not fit {type(model).__name__}: {problem}",
                "call `torch.nn.utils.parametrize.remove_parametrizations` on the layer"
                if older is None
                else "call `torch.nn.utils.remove_weight_norm` or `remove_spectral_norm` on the layer",
            )
        self._sound = known

    def release(self) -> None:
        """Stop the hold, also in copies of the model."""
        self.held = False
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _masked(self, gradient: torch.Tensor) -> torch.Tensor:
        if self.passes or gradient.layout is not torch.strided or gradient.shape != self.pruned.shape:
            return gradient  # a sparse gradient, of an embedding: the hook after the step zeroes the weights
        return gradient.masked_fill(self._pruned_on(gradient), 0)

    def _pruned_on(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.pruned.device != tensor.device:
            self.pruned = self.pruned.to(tensor.device)
        return self.pruned


_Home: TypeAlias = "tuple[weakref.ref[torch.nn.Module], str, _Zero]"
"""Module with a held weight and the weight's name; the parameter behind the name may change."""


class _AfterStep:
    """Hook of every optimizer; it looks up the optimizer's weights at each step."""

    def __init__(self, homes: Sequence[_Home]) -> None:
        self._homes = homes
        self.handle: Any = None

    def __call__(self, optimizer: Any, arguments: Any = (), options: Any = None) -> None:
        for weight, zero in self._held(optimizer):
            zero(weight)

    def zero_state(self, optimizer: Any) -> None:
        """Zero momentum and averages of pruned weights: some optimizers assign them to weights outside their step."""
        state = getattr(optimizer, "state", None)
        if not isinstance(state, Mapping):
            return
        for weight, zero in self._held(optimizer):
            for value in [*state.get(weight, {}).values()]:
                if type(value) is torch.Tensor and value.is_floating_point() and value.shape == weight.shape:
                    zero(value)

    def _held(self, optimizer: Any) -> list[tuple[torch.nn.Parameter, _Zero]]:
        alive = [(module, name, zero) for home, name, zero in self._homes if (module := home()) is not None]
        if self._homes and not alive:  # the model was deleted together with its hold
            self._homes = ()
            _IDLE.append(self.handle)  # torch iterates over the hooks here: none may be removed
        parameter_ids = _parameter_ids(optimizer)
        weights = [(weight_at(module, name, zero.pruned.shape), zero) for module, name, zero in alive]
        return [(weight, zero) for weight, zero in weights if weight is not None and id(weight) in parameter_ids]


class _Zeroing:
    """Module hook that zeroes parameters by name; a class, so that the module can be pickled."""

    def __init__(self, places: Sequence[tuple[str, _Zero]], *, before_forward: bool = False) -> None:
        self.places = places
        self.before_forward = before_forward

    def __call__(self, module: torch.nn.Module, *_: Any) -> None:
        if self.before_forward and (not module.training or torch.compiler.is_compiling()):
            return
        for name, zero in self.places:
            parameter = weight_at(module, name, zero.pruned.shape)
            if parameter is None or parameter.shape != zero.pruned.shape:
                continue  # a copy that changed since
            if self.before_forward:  # the parameter may have been frozen, replaced or parametrized since
                zero.mask_gradient(parameter)
                zero.check(module, name)
            zero(parameter)


class _Observed:
    """Replacement for the `step` of an optimizer without torch's hooks; it applies the hold after the step.

    Wrappers that skip `torch.optim.Optimizer.__init__` have no hooks, and may change weights after the step of the
    inner optimizer. The new step is a method, because learning-rate schedulers wrap it again.
    """

    def __init__(self, optimizer: Any, after: _AfterStep) -> None:
        self._optimizer = weakref.ref(optimizer)
        self._before, step = vars(optimizer).get("step"), optimizer.step

        def step_and_zero(self: Any, *arguments: Any, **options: Any) -> Any:
            result = step(*arguments, **options)
            after(self)
            return result

        optimizer.step = types.MethodType(step_and_zero, optimizer)

    def remove(self) -> None:
        optimizer = self._optimizer()
        if optimizer is not None:
            with suppress(AttributeError):
                if self._before is None:
                    del optimizer.step
                else:
                    optimizer.step = self._before


def _check(model: torch.nn.Module, weights: Mapping[str, torch.nn.Parameter], optimizers: Sequence[Any]) -> None:
    parameters = {id(parameter) for parameter in model.parameters()}
    held: set[int] = set()
    for optimizer in optimizers:
        try:
            parameter_ids = _parameter_ids(optimizer)
        except (AttributeError, KeyError, TypeError):
            parameter_ids = None
        if parameter_ids is None or not callable(getattr(optimizer, "step", None)) or isinstance(optimizer, type):
            raise UsageError(
                f"`hold` takes optimizers of torch.optim but was given {type(optimizer).__name__}",
                "pass the optimizer inside it",
            )
        if not parameter_ids & parameters:
            raise UsageError(
                f"the optimizer {type(optimizer).__name__} holds no parameter of the model",
                "make it from the parameters of the model that the masks are for, or pass `model=`",
            )
        held |= parameter_ids
    trains = [name for name, weight in weights.items() if weight.requires_grad]
    if trains and not any(id(weight) in held for weight in weights.values()):
        raise UsageError(
            f"the optimizers hold none of the {len(weights)} masked weights",
            f"pass the one that trains {trains[0]} as well: `masks.hold(first, second)`",
        )


def _parameter_ids(optimizer: Any) -> set[int]:
    return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}


def _detaching() -> AbstractContextManager[object]:
    # torch does not copy activations that a module keeps, nor the results of the older weight_norm.
    class Detaching(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function is not torch.Tensor.__deepcopy__ or args[0].is_leaf:
                return function(*args, **(kwargs or {}))
            tensor, known = args
            known[id(tensor)] = tensor.detach().clone()
            return known[id(tensor)]

    return Detaching()
