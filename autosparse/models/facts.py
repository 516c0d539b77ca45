"""Facts of a network without its weights, for plans: validity, structure, layers, bytes per image."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from threading import get_ident
from typing import Any

from autosparse.backends import available_memory
from autosparse.borders import border, in_short, is_out_of_memory, out_of_memory
from autosparse.core.torch_compat.random_state import seeded
from autosparse.core.weights import describe_layers, explain_unprunable, in_mode, prunable_weights, state_of, total_of
from autosparse.errors import AutosparseError, FitError, UsageError
from autosparse.foreign_code import printing_to_stderr
from autosparse.lazy_torch import torch
from autosparse.models._base import Shape, build_model, models
from autosparse.models.trained import Weights
from autosparse.store import Store, digest
from autosparse.user_code import label

_VERSION = 1  # version of the stored facts
_IMAGES = 2
_BUNDLED = Path(__file__).with_name("facts.json")
_SMALL = 3e10  # parameters times pixels, a bound of multiply-adds: below it a pass is faster than an import


@dataclass(frozen=True)
class LayerFacts:
    """Layer with a prunable weight: its size, and the uses of each of its numbers for one example."""

    name: str
    size: int
    positions: int


@dataclass(frozen=True)
class NetworkFacts:
    """Network on the meta device: the digest of its identity, its layers, and its numbers, prunable or not.

    `saved_bytes` is the memory that a forward pass in float32 keeps for the backward pass, and `live_bytes` the largest
    inputs and outputs of one module, both for one image.
    """

    identity: str
    layers: tuple[LayerFacts, ...]
    parameters: int
    buffers: int
    saved_bytes: int
    live_bytes: int

    @cached_property
    def total(self) -> int:
        """Number of prunable weights."""
        return sum(layer.size for layer in self.layers)

    @cached_property
    def macs(self) -> int:
        """Multiply-adds of the dense network for one example, in prunable layers."""
        return sum(layer.size * layer.positions for layer in self.layers)


@dataclass(frozen=True)
class Network:
    """Network as plans describe it: its identity in cache keys, and its builder for images of a shape."""

    identity: Mapping[str, Any]
    name: str
    options: Mapping[str, Any]
    shape: Shape
    classes: int

    @cached_property
    def facts(self) -> NetworkFacts:
        """Facts of the network. Raises UsageError for a network that cannot be built or run."""
        return network_facts(self.identity, self.name, self.options, self.shape, self.classes)

    def build(self) -> torch.nn.Module:
        return build_model(self.name, self.options, self.shape, self.classes)


@cache
def bundled_facts() -> Mapping[str, Any]:
    """Return the facts of built-in networks on images of common sets, by the digest of their identity.

    A plan of these needs no torch: its import takes 15 s next to twelve busy processes on two cores.
    """
    facts: dict[str, Any] = json.loads(_BUNDLED.read_bytes())
    return facts


def identity_of(identity: Mapping[str, Any], shape: Shape, classes: int) -> str:
    """Return the digest of a network's identity on images of a shape."""
    return digest([_VERSION, dict(identity), list(shape), classes])


def network_facts(
    identity: Mapping[str, Any], name: str, options: Mapping[str, Any], shape: Shape, classes: int
) -> NetworkFacts:
    """Return the facts of a network: bundled ones, remembered ones, or those of a trace, which are remembered.

    A trace runs the network on two images of zeros, and loads torch.

    A large network is traced on torch's meta device, which computes no numbers, but whose first operation imports
    torch's compiler for seconds; after that import any network is. Raises UsageError if it cannot be built or run.
    """
    known = identity_of(identity, shape, classes)
    store = Store.default()
    memory = f"network-{known}"
    if bundled := bundled_facts().get(known):
        layers = tuple(LayerFacts(**layer) for layer in bundled["layers"])
        return NetworkFacts(**{**bundled, "identity": known, "layers": layers})
    remembered: NetworkFacts | None = store.recall(memory, NetworkFacts)
    if remembered and remembered.identity == known:
        return remembered
    facts = trace_network(known, name, options, shape, classes)
    store.note(memory, asdict(facts))
    return facts


def trace_network(identity: str, name: str, options: Mapping[str, Any], shape: Shape, classes: int) -> NetworkFacts:
    """Trace a network on two images of zeros. Raises UsageError if it cannot be built or run."""
    build = partial(build_model, name, options, shape, classes)
    with seeded(0), fits(label(name), shape), _within_memory(label(name)):
        on_paper = None if models[name].facts.get("user_code") else _trace_on_paper(identity, build, shape)
        return on_paper or _trace(identity, build(), shape)


def _trace_on_paper(identity: str, build: Callable[[], torch.nn.Module], shape: Shape) -> NetworkFacts | None:
    # Never for user code: a factory that caches a tensor would put the one without numbers into the real network.
    try:
        with torch.device("meta"), _nothing_drawn():
            network = build()
            return _trace(identity, network, shape) if _on_paper(network, shape) else None
    except FitError:
        raise
    except Exception:  # some networks read their weights or activations, which have no numbers here
        return None


@contextmanager
def _within_memory(label: str) -> Iterator[None]:
    # Raise FitError in the construction of a network, once its parameters take more than the memory.
    thread, memory, size = get_ident(), available_memory(), 0
    sizes = torch.utils.weak.WeakIdKeyDictionary()  # each parameter once, until it is freed

    def count(_: object, name: str, parameter: torch.Tensor) -> None:
        nonlocal size
        if get_ident() != thread or torch.nn.parameter.is_lazy(parameter):  # hooks see the networks of all threads
            return
        sizes[parameter] = 4 * parameter.numel()
        size += sizes[parameter]
        if size > memory and (size := sum(sizes.values())) > memory:
            raise FitError(
                f"the weights of model `{label}` take more than {memory / 2**30:,.1f} GiB of memory",
                "choose a smaller network or a machine with more memory",
            )

    hook = torch.nn.modules.module.register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def _on_paper(network: Any, shape: Shape) -> bool:
    work = total_of(dict(network.named_parameters())) * shape[1] * shape[2]
    return "torch._dynamo" in sys.modules or work > _SMALL


def _nothing_drawn() -> AbstractContextManager[object]:
    # Meta weights need no random numbers, and drawing them would import the compiler too.
    class Undrawn(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            tensor = args[0] if args else (kwargs or {}).get("tensor")  # the argument name in torch.nn.init
            draws = getattr(func, "__name__", "") in ("normal_", "uniform_") and tensor is not None and tensor.is_meta
            return tensor if draws else func(*args, **(kwargs or {}))

    return Undrawn()


def _trace(identity: str, network: Any, shape: Shape) -> NetworkFacts:
    parameter = next(network.parameters())
    images = torch.zeros((_IMAGES, *shape), device=parameter.device)
    stored = {_address_of(tensor) for tensor in (*network.parameters(), *network.buffers())}
    saved: dict[int, int] = {}
    live = 0

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if (address := _address_of(tensor)) not in stored:
            saved[address] = max(saved.get(address, 0), tensor.numel() * tensor.element_size())
            held.append(tensor)  # a freed tensor's address is used again
        return tensor

    def measure(module: Any, inputs: Any, outputs: Any) -> None:
        nonlocal live
        tensors = [t for t in (*inputs, outputs) if isinstance(t, torch.Tensor)]
        live = max(live, sum(t.numel() * t.element_size() for t in tensors))

    held: list[torch.Tensor] = []
    layers = describe_layers(network, images[:1])
    with ExitStack() as hooks:
        for module in network.modules():
            hooks.enter_context(module.register_forward_hook(measure))
        hooks.enter_context(in_mode(network, training=True))
        hooks.enter_context(torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor))
        outputs = network(images)
        torch.nn.functional.cross_entropy(outputs, torch.zeros(_IMAGES, dtype=torch.long, device=images.device))
    return NetworkFacts(
        identity=identity,
        layers=tuple(LayerFacts(layer.name, layer.size, layer.positions) for layer in layers),
        parameters=total_of(dict(network.named_parameters())),
        buffers=total_of(dict(network.named_buffers())),
        saved_bytes=sum(saved.values()) // _IMAGES,
        live_bytes=live // _IMAGES,
    )


def _address_of(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def structure_of(
    label: str, build: Callable[[], torch.nn.Module], identity: Any, shape: Shape, classes: int, *, device: str
) -> str:
    """Return a network's state digest, remembered by `identity`. Raises UsageError for wrong images or logits."""
    memory = f"structure-{digest([identity, list(shape), classes])}"
    store = Store.default()
    if (known := store.recall(memory, str)) is not None:
        return known  # type: ignore[no-any-return]
    with seeded(0), _within_memory(label):
        try:
            with torch.device(device):
                network = build()
        except NotImplementedError:  # some networks read their weights during construction
            network = build()
        check_network(label, network, shape, classes)
        _logits(label, network, shape, training=True)  # changes running statistics: the network is discarded
    state = state_of(network)
    structure = digest([[name, list(tensor.shape), str(tensor.dtype)] for name, tensor in state.items()])
    store.remember(memory, structure)
    return structure


def check_start(network: Network, weights: Weights) -> tuple[str, ...]:
    """Load trained weights into a network, once for each content; return notes on the differences.

    Raises UsageError for weights that do not fit the network.
    """
    planned = weights.identity
    about = [network.identity, planned, weights.reader, network.shape, network.classes]
    memory, store = f"start-{digest(about)}", Store.default()
    if (known := store.recall(memory, tuple[str, ...])) is not None:
        return known  # type: ignore[no-any-return]
    with seeded(0), fits(label(network.name), network.shape), _within_memory(label(network.name)):
        notes = weights.load(network.build(), planned, network.shape, network.classes)
    store.note(memory, notes)
    return notes


@contextmanager
def fits(label: str, shape: Shape) -> Iterator[None]:
    """Turn any error of a library's network on images of `shape` into a UsageError that names the shape.

    Out of memory, it becomes a FitError. Output of the network goes to stderr: stdout is for results.
    """
    size = " x ".join(map(str, shape))

    def refuse(error: BaseException) -> AutosparseError:  # networks assert, index and reshape: any type of error
        if is_out_of_memory(error):
            return out_of_memory(f"model `{label}` on images of {size}", error)
        return UsageError(
            f"model `{label}` does not take images of {size}: {in_short(error)}",
            "give the images' size as its option (`image_size`, `img_size`), or scale them: `dataset.size: 224`",
        )

    with printing_to_stderr(), border(refuse):
        yield


def check_network(label: str, network: Any, shape: Shape, classes: int) -> None:
    """Raise UsageError unless a network has prunable weights and returns one row of `classes` logits for one image."""
    if not isinstance(network, torch.nn.Module):
        raise UsageError(f"model `{label}` must give a torch.nn.Module but gives {_a(network)}")
    lazy = [name for name, parameter in network.named_parameters() if torch.nn.parameter.is_lazy(parameter)]
    if lazy:
        raise UsageError(
            f"model `{label}` is built lazily: {lazy[0]} has no shape before the first batch",
            "name the sizes, or run one batch through it before it is returned",
        )
    if not prunable_weights(network):
        raise UsageError(
            f"model `{label}` has no prunable weight: {explain_unprunable(network)}",
            "weights of convolutions, linear layers and attention are, if they train",
        )
    outputs, size = _logits(label, network, shape, training=False), " x ".join(map(str, shape))
    if tuple(outputs.shape) != (1, classes):
        raise UsageError(
            f"model `{label}` gives outputs of shape {list(outputs.shape)} for one image of {size}, "
            f"not [1, {classes}]: one logit a class",
            "a factory is called as `factory(input_shape, classes, **options)`",
        )


def _logits(label: str, network: torch.nn.Module, shape: Shape, *, training: bool) -> torch.Tensor:
    # Two images in training mode, as BatchNorm requires.
    images = torch.zeros((2 if training else 1, *shape), device=next(network.parameters()).device)
    with in_mode(network, training=training), torch.no_grad():
        outputs = network(images)
    if not isinstance(outputs, torch.Tensor):
        problem = f"model `{label}` must give a tensor of logits but gives {_a(outputs)}"
        if training:
            hint = "turn auxiliary outputs off, such as by the option `aux_logits: false`"
            raise UsageError(f"{problem} while it trains", hint)
        raise UsageError(problem)
    return outputs


def _a(value: Any) -> str:
    return f"a {type(value).__name__}"
