"""Inputs of steps in usable form: networks, images, generators, and the evidence for criteria."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

from autosparse.backends import available_memory, free_processes, usable_cores
from autosparse.core.evidence import Batch, Evidence
from autosparse.core.images import Images, epoch
from autosparse.core.torch_compat.memory_layout import images_for
from autosparse.core.torch_compat.random_state import seed_of, seeded
from autosparse.core.training.recipe import Recipe
from autosparse.core.weights import Tensors, describe_layers, explain_unprunable, load_state, prunable_weights
from autosparse.errors import Diverged, StepError
from autosparse.lazy_torch import torch
from autosparse.models import build_model
from autosparse.registry import Registry
from autosparse.steps._base import Context, MaskedResult, StateResult, reading
from autosparse.steps.data import DataResult
from autosparse.steps.init import InitResult, find_model
from autosparse.store import Artifact

Function = TypeVar("Function", bound=Callable[..., Any])
_READERS = 4  # processes that read images from disk


def choose(registry: Registry[Function], choice: Mapping[str, Any]) -> Callable[..., Any]:
    """Return the function of a keyed choice, with its options filled in."""
    return partial(registry[choice["name"]].function, **choice["options"])


def build_network(context: Context, *, seed: int | None = None) -> torch.nn.Module:
    """Build the network of input `init`, initialized at `seed`; without a seed, load a state before use."""
    start = InitResult.read(context.inputs["init"])
    with seeded(seed or 0):
        network = build_model(*find_model(context, start.model), start.shape, start.classes)
    return network.to(context.device)


def load_network(context: Context) -> torch.nn.Module:
    """Return the network of input `init` at its initialization."""
    return restore(build_network(context), InitResult.read(context.inputs["init"]))


def restore(network: torch.nn.Module, result: StateResult) -> torch.nn.Module:
    """Load the state of a result into its network. Raises DamagedArtifact for the state of another."""
    state = result.state
    with reading(result.artifact, "state.safetensors"):
        return load_state(network, state)


def masks_of(weights: Tensors, result: MaskedResult) -> Tensors:
    """Return the masks of a result. Raises DamagedArtifact unless they have the shapes of the network's weights."""
    shapes = {name: weight.shape for name, weight in weights.items()}
    fits = {name: mask.shape for name, mask in result.masks.items()} == shapes
    result.require(fits, "masks.safetensors: not the weights of the network")
    masks: Tensors = result.masks
    return masks


def not_finite(state: Mapping[str, torch.Tensor]) -> str | None:
    """Return the name of the first tensor with a value that is not finite, if any."""
    return next((name for name, tensor in state.items() if not tensor.isfinite().all()), None)


def copied(state: Tensors) -> Tensors:
    """Return a copy of named tensors, such as the state before an attempt."""
    return {name: tensor.clone() for name, tensor in state.items()}


def diverged(state: Mapping[str, torch.Tensor], losses: Iterable[float]) -> bool:
    """Return whether a training reached values that are not finite."""
    return not_finite(state) is not None or not all(map(math.isfinite, losses))


def check_training(state: Mapping[str, torch.Tensor], losses: Iterable[float], option: str) -> None:
    """Require finite values after a training. Raises Diverged, which suggests to lower `option`."""
    if broken := not_finite(state) or ("" if all(map(math.isfinite, losses)) else "its loss"):
        raise Diverged(f"training diverged: {broken} is not finite", f"lower `{option}`")


def on_device(context: Context, tensors: Tensors) -> Tensors:
    """Return named tensors on the step's device."""
    return {name: tensor.to(context.device) for name, tensor in tensors.items()}


def images_of(context: Context, split: str, device: torch.device | None = None) -> Images:
    """Return one split of input `data`, on the step's device or another."""
    device = context.device if device is None else device
    images = load_images(context.inputs["data"], split, device, stream=context.placement.stream)
    classes = InitResult.read(context.inputs["init"]).classes
    if int(images.labels.max()) >= classes:
        raise context.inputs["data"].malformed(f"{split}.safetensors: `labels` are not of {classes} classes")
    return images


def load_images(artifact: Artifact, split: str, device: torch.device, *, stream: bool = False) -> Images:
    """Load one split of a `data` artifact: train, validation or test.

    A split of several files stays on disk unless it fits into half of the free memory; with `stream` every split
    stays on disk. The batches are the same.
    """
    data = DataResult.read(artifact)
    size = sum(artifact.files[f"{name}.safetensors"]["bytes"] for name in data.shards(split))
    in_memory = not stream and (not size or 2 * size <= free_memory(device))
    # Training on a CPU is slower than a disk; on a GPU it is not.
    readers = 0 if in_memory or device.type == "cpu" else disk_readers(usable_cores().value, free_processes())
    pixels, labels = data.images(split, in_memory=in_memory)
    return Images(pixels, labels, data.statistics["mean"], data.statistics["spread"], readers).to(device)


def calibration_images(data: Artifact, number: int, *, stream: bool = False) -> torch.Tensor:
    """Return training images of a `data` artifact for a calibration, without augmentation; the same at every call."""
    train = load_images(data, "train", torch.device("cpu"), stream=stream)
    return torch.cat([images for images, _ in train.sample(number, generator("calibration"))]).contiguous()


def disk_readers(cores: int, processes: int | None) -> int:
    """Return the number of processes that read images from disk, each with a few threads, within the limits."""
    return min(_READERS, cores, _READERS if processes is None else processes // (2 * _READERS))


def free_memory(device: torch.device) -> int:
    """Return the free memory for images in bytes: the smaller of this machine's and the device's."""
    here = available_memory()
    if device.type != "cuda":
        return here
    there, _ = torch.cuda.mem_get_info(device)
    return min(here, int(there))


def generator(*purpose: str | int) -> torch.Generator:
    """Return a generator on the CPU, seeded by the digest of its purpose."""
    return torch.Generator().manual_seed(seed_of(*purpose))


def gather_evidence(
    context: Context,
    *,
    seed: int,
    recipe: Recipe | None = None,
    corrupt: Callable[[Images], Images] = lambda images: images,
) -> Evidence:
    """Return evidence on the network of input `init` under full masks, with batches of input `data`'s training split.

    A recipe adds training batches with its augmentation, identical at each restart. `corrupt` replaces the images of
    the training split.
    """
    # Some scores need float64, as their authors use, which Apple's GPUs lack.
    device = torch.device("cpu") if context.device.type == "mps" else context.device
    model = load_network(context).to(device)
    images = images_for(model, corrupt(images_of(context, "train", device)))
    if not prunable_weights(model):
        raise StepError(f"the network has no prunable weight: {explain_unprunable(model)}")
    example = torch.zeros((1, *images.input_shape), device=device)
    random = generator("evidence", seed)
    return Evidence.dense(
        model,
        describe_layers(model, example),
        lambda count: images.sample(count, random),
        random,
        lambda: example,
        note=context.note,
        stream=None if recipe is None else partial(training_stream, images, recipe, seed),
    )


def training_stream(images: Images, recipe: Recipe, seed: int) -> Iterator[Batch]:
    """Yield augmented batches without end, epoch after epoch, by a recipe's batch size and augmentation."""
    random = generator("stream", seed)
    while True:
        yield from epoch(
            images, batch=recipe.batch, crop=recipe.crop, flip=recipe.flip, cutout=recipe.cutout, generator=random
        )
