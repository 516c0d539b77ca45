"""ONNX, for onnxruntime and whatever else reads it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

from autosparse.errors import MissingExtra
from autosparse.exporters._base import Model, exporters
from autosparse.exporters.shrunk import smaller
from autosparse.foreign_code import first_line
from autosparse.lazy_torch import torch

FILE = "model.onnx"
INPUTS, OUTPUTS = "images", "logits"


def run(files: Mapping[str, bytes]) -> Callable[[torch.Tensor], torch.Tensor]:
    """The model in onnxruntime, on a CPU, in torch's number of threads. Raises ValueError for bytes that are none."""
    try:
        import onnxruntime
    except ImportError as error:
        raise _missing() from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(files[FILE], options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its classes are made anew for each kind of failure
        raise ValueError(f"onnxruntime does not open it: {error}") from error

    def logits(images: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(session.run([OUTPUTS], {INPUTS: images.contiguous().numpy()})[0])

    return logits


@exporters.register(
    run=run,
    files=(FILE,),
    exact=False,
    extra="onnx",
    opener="onnxruntime",
    builds=60,
)
def onnx(model: Model, *, shrink: Annotated[bool, "leave out channels that carry nothing"] = True) -> dict[str, bytes]:
    """`model.onnx`: for onnxruntime, without dead channels; input `images`, output `logits`, any number of images."""
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise _missing() from error
    network = smaller(model, shrink=shrink)
    try:
        with _silent():
            program = torch.onnx.export(
                network,
                (torch.zeros(2, *model.shape),),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                input_names=[INPUTS],
                output_names=[OUTPUTS],
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # whatever of the network's own code it stumbles over
        raise ValueError(f"torch.onnx does not export it: {first_line(error)}") from error
    assert program is not None
    return {FILE: _bare(program.model_proto).SerializeToString(deterministic=True)}


def _bare(proto: Any) -> Any:
    # Where in which file of this machine each operation was written is no part of a model.
    graph = proto.graph
    for holder in (proto, graph, *graph.node, *graph.value_info, *graph.input, *graph.output):
        del holder.metadata_props[:]
    return proto


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    # It tells its progress on stdout, which is the result's.
    nowhere = io.StringIO()
    with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


def _missing() -> MissingExtra:
    return MissingExtra("format `onnx` needs onnxscript and onnxruntime", "run `pip install 'autosparse[onnx]'`")
