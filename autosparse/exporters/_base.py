"""Registry of formats for emitted models: a registered function maps a `Model` to file name -> bytes.

Facts of a format: `files`, names of the model's files, and `optional`, those of files that it may add; `exact`, whether
outputs equal those of the network with the written tensors to the last bit, or up to rounding; `extra`, the extra of
autosparse that it needs; `gain`, why it may be no faster; `others`, whether it reports other seeds and controls;
`shrinks`, whether it always removes dead channels; `builds`, the cost of its creation in builds of the network.
Functions of the options: `lossy`, whether outputs differ by more than rounding, and `calibrates`, the number of
training images that it needs. `read` returns the model from the same files, and `fit` loads it into a network where
loading a state is not enough; `read` raises ValueError for bytes that are no such model. A format for another program
has instead `run`, which returns a function of images, and `opener`, that program. `runtime` is the `Runtime` of its
models: without one, PyTorch eager mode. Functions of images take any inputs of the network, and return its outputs.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from autosparse.core.graph.slicing import Slicing
from autosparse.core.inputs import Inputs, resized
from autosparse.exporters.signature import Signature
from autosparse.lazy_torch import torch
from autosparse.registry import Registry

Function: TypeAlias = Callable[[Inputs], Any]
"""Model or network as a function of its inputs."""


@dataclass(frozen=True)
class Model:
    """Pruned, trained network as a format writes or reads it.

    Attributes:
        state: Parameters and buffers by name.
        masks: Weight -> bool tensor of its shape, True for kept weights.
        network: Function that builds the network with any state, for formats that need more than tensors.
        shape: Shape of one image: (channels, height, width).
        choices: Layer -> batch size -> kernel, for formats that choose kernels.
        signature: Facts for a server; None for a model that is only measured.
        config: Fields of the hub's `config.json` by which the network's library builds it.
        about: Content of a card: pruning, training, measurements, and the results of other seeds and controls.
        inputs: Inputs of a network that takes anything else than images of `shape`.
        slicing: Smaller network that masks of whole channels leave.
        calibration: Function that returns batches of training inputs, for formats that calibrate.
        memo: Intermediate results that the formats of one network share.
    """

    state: "Mapping[str, torch.Tensor]"
    masks: "Mapping[str, torch.Tensor]"
    network: "Callable[[], torch.nn.Module] | None" = None
    shape: tuple[int, ...] = ()
    choices: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    signature: Signature | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    inputs: "Inputs | None" = None
    slicing: "Slicing | None" = None
    calibration: "Callable[[], Iterable[Inputs]] | None" = None
    memo: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def example(self, examples: int) -> Inputs:
        """Return inputs of the network.

        Args:
            examples: Size of the batch.

        Returns:
            Examples of `inputs`, repeated as often as needed; zeros for images.
        """
        return torch.zeros(examples, *self.shape) if self.inputs is None else resized(self.inputs, examples)


@dataclass(frozen=True)
class Runtime:
    """Program that computes emitted models; their speed-up is against the dense network in the same program.

    Attributes:
        name: Name of the program in reports.
        dense: Function that writes a dense network, a `Model` without masks, to the files of the format; None for
            PyTorch eager mode, which computes the network itself.
    """

    name: str
    dense: "Callable[[Model], dict[str, bytes]] | None" = None


EAGER = Runtime("PyTorch")

exporters: Registry[Callable[..., dict[str, bytes]]] = Registry("format", "formats")
_FREE, _FOR_A_BYTE = 2**25, 256


def most_numbers(size: int) -> int:
    """Return the most numbers that a file may describe: 2^25, and 256 for each of its bytes.

    Args:
        size: Size of the file in bytes.

    Returns:
        Number of weights, zeros included.
    """
    return _FREE + _FOR_A_BYTE * size


BATCHES = (1, 32)
"""Batch sizes that a model is optimized for and timed with."""


def bytes_of(format: str, sizes: Mapping[str, int]) -> int:
    """Return the size of a model in bytes, without the optional files of its format.

    Args:
        format: Name of the format.
        sizes: File name -> size in bytes.

    Returns:
        Sum over the model's files.

    Examples:
        >>> bytes_of("onnx", {"model.onnx": 5000, "predict.py": 2000})
        5000
    """
    return sum(sizes.get(name, 0) for name in exporters[format].facts["files"])


def is_lossy(format: str, options: Mapping[str, Any]) -> bool:
    """Return whether a model's outputs differ from the network's by more than rounding.

    Args:
        format: Name of the format.
        options: Options of the format, with their defaults.

    Returns:
        True for quantized models.

    Examples:
        >>> is_lossy("onnx", {"quantize": "int8"}), is_lossy("compact", {"values": "float16"})
        (True, False)
    """
    lossy: Callable[[Mapping[str, Any]], bool] | None = exporters[format].facts.get("lossy")
    return lossy is not None and lossy(options)


def calibrates(format: str, options: Mapping[str, Any]) -> int:
    """Return the number of training images that a format calibrates its model on.

    Args:
        format: Name of the format.
        options: Options of the format, with their defaults.

    Returns:
        Number of images, 0 for a format without a calibration.

    Examples:
        >>> calibrates("onnx", {"quantize": "dynamic"})
        0
    """
    needs: Callable[[Mapping[str, Any]], int] | None = exporters[format].facts.get("calibrates")
    return needs(options) if needs is not None else 0


def open_model(format: str, files: Mapping[str, bytes], network: "torch.nn.Module | None") -> Function:
    """Return an emitted model as a function.

    Args:
        format: Name of the format.
        files: File name -> content.
        network: Network of the pruned structure, freshly built; None for a format of another program.

    Returns:
        Function of the network's inputs; for images, float `[images, channels, height, width]`, to logits
        `[images, classes]`.

    Raises:
        ValueError: If the bytes are no model of this format.
    """
    facts: Mapping[str, Any] = exporters[format].facts
    if "run" in facts:
        run: Function = facts["run"](files)
        return run
    assert network is not None
    return fit(format, facts["read"](files), network)


def runtime_of(format: str) -> Runtime:
    """Return the runtime of a format.

    Args:
        format: Name of the format.

    Returns:
        Runtime of its registration, or PyTorch eager mode.

    Examples:
        >>> runtime_of("onnx").name
        'onnxruntime'
    """
    runtime: Runtime = exporters[format].facts.get("runtime", EAGER)
    return runtime


def fit(format: str, model: Model, network: "torch.nn.Module") -> "torch.nn.Module":
    """Load a model into a network, in evaluation mode.

    Args:
        format: Name of the format.
        model: Model that the format's `read` returned.
        network: Network of the pruned structure.

    Returns:
        The network itself, or another one for the smaller formats.

    Raises:
        ValueError: If the tensors do not fit the network.

    Examples:
        >>> import torch
        >>> network = torch.nn.Linear(2, 1, bias=False)
        >>> model = Model({"weight": torch.tensor([[1.0, 0.0]])}, {})
        >>> fit("safetensors", model, network)(torch.tensor([[3.0, 5.0]])).item()
        3.0
    """
    custom: Callable[[Model, torch.nn.Module], torch.nn.Module] | None = exporters[format].facts.get("fit")
    if custom is not None:
        return custom(model, network)
    from autosparse.core.weights import load_state

    return load_state(network, model.state).eval()
