"""Networks without dead channels: the state of a smaller network, and its `torch.export` and ONNX programs."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import warnings
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from autosparse.borders import border, optional, refusal
from autosparse.core.graph.shrink import resize
from autosparse.core.graph.shrink import shrink as without_dead
from autosparse.core.graph.slicing import Slicing, from_named, named, sliced
from autosparse.core.inputs import Inputs, arguments, call, map_tensors, plain, tensors_in
from autosparse.core.weights import load_state, state_of
from autosparse.exporters._base import Function, Model, Runtime, exporters
from autosparse.exporters.onnx_profile import session_options
from autosparse.exporters.quantization import NONE, Quantize, calibrates, quantized, quantizes
from autosparse.exporters.signature import BATCH, INPUT, OUTPUT, Signature, card_fields, onnx_metadata
from autosparse.foreign_code import printing_to_stderr
from autosparse.lazy_torch import torch
from autosparse.packaged import template
from autosparse.store import dump_tensors, load_tensors
from autosparse.text import size

SLICES = "model.slices.safetensors"
STATE, ONNX, PT2, PREDICT = "model.shrunk.safetensors", "model.onnx", "model.pt2", "predict.py"
SIGNATURE = "signature.json"
_LARGEST_ONNX = 2**31 - 2**20  # bytes of a protobuf, without the graph
_BLOCK = 8  # channels of a block of onnxruntime's convolutions; other numbers of channels take up to a third longer
Shrink = Annotated[bool, "remove dead channels"]


def smaller(model: Model, *, shrink: bool = True, multiple: int = 1) -> torch.nn.Module:
    """Return the pruned network in evaluation mode; `shrink` removes dead channels, to multiples of `multiple`.

    Raises ValueError if the network is unreadable.
    """
    assert model.network is not None
    network = load_state(model.network(), model.state).cpu().eval()
    if not shrink:
        return network
    network = without_channels(network, model.slicing)
    known = f"smaller, in multiples of {multiple}"
    if known not in model.memo:
        model.memo[known] = _smallest(network, model, multiple)
    return resize(network, model.memo[known])


def _smallest(network: torch.nn.Module, model: Model, multiple: int) -> Mapping[str, torch.Tensor]:
    try:
        return without_dead(network, model.example(2), multiple)
    except ValueError:
        if model.slicing is None:
            raise
        return state_of(network)  # without channels already


def read(files: Mapping[str, bytes]) -> Model:
    """Return the tensors that `shrunk` wrote. Raises ValueError for bytes that are none."""
    state = load_tensors(files[STATE])
    masks = {name: t != 0 for name, t in state.items() if name.endswith("weight") and t.ndim > 1}
    return Model(state, masks, slicing=slicing_in(files))


def slicing_in(files: Mapping[str, bytes]) -> Slicing | None:
    """Return the channels that a method kept, if a model's files have them. Raises ValueError for damaged ones."""
    return from_named(load_tensors(files[SLICES])) if SLICES in files else None


def slices_of(model: Model) -> dict[str, bytes]:
    """Return the file of the channels that a method kept, if it prunes whole channels."""
    return {} if model.slicing is None else {SLICES: dump_tensors(named(model.slicing))}


def fit(model: Model, network: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of the pruned network with smaller layers. Raises ValueError for tensors of another network."""
    return resize(without_channels(network, model.slicing), model.state)


def without_channels(network: torch.nn.Module, slicing: Slicing | None) -> torch.nn.Module:
    """Return the network between the channels that a method kept, or the network itself."""
    return network if slicing is None else sliced(network, slicing)


@exporters.register(
    read=read,
    fit=fit,
    files=(STATE,),
    optional=(SLICES,),
    exact=False,
    builds=10,
    gain="too few channels are dead",
    shrinks=True,
)
def shrunk(model: Model) -> dict[str, bytes]:
    """`model.shrunk.safetensors`: the state of a smaller ordinary network, without dead channels.

    `autosparse.load` shrinks the layers and loads the state. It removes all channels that the masks left dead.
    `model.slices.safetensors` has the channels that a method kept, if it prunes whole channels.
    """
    return {STATE: dump_tensors(state_of(smaller(model))), **slices_of(model)}


def run_onnx(files: Mapping[str, bytes]) -> Function:
    """Return the model in onnxruntime, on a CPU, with torch's thread count. Raises ValueError for bad bytes."""
    with _importing():
        import onnxruntime
    options = session_options(onnxruntime, torch.get_num_threads())
    try:
        session = onnxruntime.InferenceSession(files[ONNX], options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime creates its error classes dynamically
        raise ValueError(f"onnxruntime does not open it: {error}") from error
    names = [one.name for one in session.get_inputs()]

    def run(inputs: Inputs) -> Any:
        fed = zip(names, tensors_in(inputs), strict=True)
        outputs = session.run(None, {name: tensor.contiguous().numpy() for name, tensor in fed})
        return torch.from_numpy(outputs[0]) if len(outputs) == 1 else tuple(map(torch.from_numpy, outputs))

    return run


def dense_onnx(model: Model) -> dict[str, bytes]:
    """Write a dense network for onnxruntime."""
    return onnx(model, shrink=False)


@exporters.register(
    run=run_onnx,
    files=(ONNX,),
    optional=(PREDICT,),
    exact=False,
    extra="onnx",
    opener="onnxruntime",
    runtime=Runtime("onnxruntime", dense_onnx),
    gain="remaining zeros are multiplied",
    version=2,
    builds=60,
    lossy=quantizes,
    calibrates=calibrates,
)
def onnx(model: Model, *, shrink: Shrink = True, quantize: Quantize = "none") -> dict[str, bytes]:
    """`model.onnx`: for onnxruntime, without dead channels; input `images`, output `logits`, any number of images.

    Its metadata has the class names and the preprocessing. `predict.py` classifies pictures without autosparse. Dead
    channels stay where they fill a number of channels up to a multiple of 8, which onnxruntime computes faster.
    `quantize` computes layers in 8-bit integers, by onnxruntime's own tools: smaller and faster, less exact.
    """
    with _importing():
        import onnxscript  # noqa: F401
    program = _program(model, shrink)
    return onnx_files(program if quantize == NONE else quantized(program, quantize, model.calibration), model.signature)


def _program(model: Model, shrink: bool) -> Any:
    # The network as a float32 ONNX model.
    signature = model.signature
    nowhere = io.StringIO()  # torch.onnx prints progress to stdout, which is for results
    with (
        _recorded(model, shrink, "torch.onnx does not export it", _BLOCK) as (network, positional, named, shapes),
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        if (length := sum(tensor.nbytes for tensor in state_of(network).values())) > _LARGEST_ONNX:
            raise ValueError(f"its tensors of {size(length)} are larger than the 2 GB of an ONNX file")
        program = torch.onnx.export(
            network,
            positional,
            kwargs=named,
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=[one.name for one in signature.inputs] if signature else [INPUT],
            output_names=[one.name for one in signature.outputs] if signature else [OUTPUT],
            external_data=False,
            verbose=False,
        )
    assert program is not None
    named_here = {value.name for value in (*program.model.graph.inputs, *program.model.graph.outputs)}
    for value in (value for node in program.model.graph for value in node.outputs):
        if value.name in named_here and not value.is_graph_output():
            value.name = f"{value.name}_inside"  # torch names a result after its operation, such as `mean`
    proto = program.model_proto
    graph = proto.graph
    for holder in (proto, graph, *graph.node, *graph.value_info, *graph.input, *graph.output):
        del holder.metadata_props[:]  # source files and lines of this machine are no part of a model
    return proto


def onnx_files(proto: Any, signature: Signature | None) -> dict[str, bytes]:
    """Return an ONNX model with a signature as its metadata, and `predict.py` where that can read picture files."""
    if signature is None:
        return {ONNX: proto.SerializeToString(deterministic=True)}
    for key, value in onnx_metadata(signature).items():
        proto.metadata_props.add(key=key, value=value)
    predict = {PREDICT: template(PREDICT).encode()} if signature.takes_pictures else {}
    return {ONNX: proto.SerializeToString(deterministic=True), **predict}


def run_pt2(files: Mapping[str, bytes]) -> Function:
    """Return the model in torch: only for trusted files. Raises ValueError for bytes that are none."""
    try:
        module = torch.export.load(io.BytesIO(files[PT2])).module()
    except Exception as error:  # any error of torch's loader
        raise ValueError(f"torch.export does not open it: {error}") from error
    return lambda inputs: call(module, inputs)  # an exported module has only the mode in which it was recorded


def dense_pt2(model: Model) -> dict[str, bytes]:
    """Write a dense network as a program of `torch.export`."""
    return pt2(model, shrink=False)


@exporters.register(
    run=run_pt2,
    files=(PT2,),
    exact=False,
    opener="torch.export.load",
    runtime=Runtime("torch.export", dense_pt2),
    gain="remaining zeros are multiplied",
    builds=20,
)
def pt2(model: Model, *, shrink: Shrink = True) -> dict[str, bytes]:
    """`model.pt2`: a `torch.export` program, without dead channels; for torch without the network's code.

    It takes any number of images. Its extra file `signature.json` has the class names and the preprocessing. Open
    trusted files only: `torch.export.load` may unpickle.
    """
    file = io.BytesIO()
    extra = {} if model.signature is None else {SIGNATURE: json.dumps(card_fields(model.signature), sort_keys=True)}
    with _recorded(model, shrink, "torch.export does not record it") as (network, positional, named, shapes):
        _check_keywords(network, named)
        program = torch.export.export(network, positional, named, dynamic_shapes=shapes)
        for node in program.graph.nodes:  # source files and lines of this machine are no part of a model
            node.meta.pop("stack_trace", None)
        torch.export.save(program, file, extra_files=extra)
    return {PT2: file.getvalue()}


@contextlib.contextmanager
def _recorded(
    model: Model, shrink: bool, problem: str, multiple: int = 1
) -> Iterator[tuple[torch.nn.Module, Any, Any, Any]]:
    # A network, inputs of two examples, and their free dimensions; any error of the network's code is a ValueError.
    network, inputs = smaller(model, shrink=shrink, multiple=multiple), model.example(2)
    with border(refusal(problem)), printing_to_stderr():
        if model.inputs is not None:
            _return_plain(network, inputs)
        free = torch.export.ShapesCollection()
        batch = torch.export.Dim(BATCH)
        for tensor in tensors_in(inputs):
            free[tensor] = {0: batch}
        positional, named = arguments(inputs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.onnx names dimensions after the first of equal ones
            yield network, positional, named, free.dynamic_shapes(network, positional, named)


def _check_keywords(network: torch.nn.Module, named: Mapping[str, Any]) -> None:
    # A stored program loses the names of `**` arguments.
    parameters = inspect.signature(network.forward).parameters
    if absent := [name for name in named if name not in parameters]:
        raise ValueError(f"its forward pass takes `{absent[0]}` in `**`; name that argument in `forward`")


def _return_plain(network: torch.nn.Module, inputs: Inputs) -> None:
    # Programs return dictionaries in place of classes of other libraries, which whoever opens them may not have.
    with torch.no_grad():
        outputs = call(network, map_tensors(torch.clone, inputs))
    if not isinstance(outputs, torch.Tensor):
        network.register_forward_hook(lambda _, given, outputs: plain(outputs))


def _importing() -> contextlib.AbstractContextManager[None]:
    return optional("onnxscript", "onnxruntime", purpose="format `onnx`", install="'autosparse[onnx]'")
