"""The context of a step: inputs, device, generators, and the evidence that criteria look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from autosparse.backends import Place, available_memory
from autosparse.core.evidence import Batch, Evidence
from autosparse.core.images import Images, epoch
from autosparse.core.irp import rewind
from autosparse.core.torch_compat.memory_layout import images_for
from autosparse.core.torch_compat.random_state import seed_of, seeded
from autosparse.core.training.loop import Recipe, Team
from autosparse.core.weights import describe_layers, explain_unprunable, prunable_weights
from autosparse.errors import StepError
from autosparse.lazy_torch import torch
from autosparse.models import build_model
from autosparse.registry import Registry
from autosparse.store import Artifact, Draft
from autosparse.user_code import label, sources

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Work:
    """A step's inputs (role -> artifact), its output, its place, and what no key knows (paths, downloads)."""

    inputs: Mapping[str, Artifact]
    output: Draft
    place: Place
    access: Mapping[str, Any]
    observe: Callable[..., None] = lambda *_: None
    """called with what is done of a step, all of it, and the loss so far where there is one"""
    team: Team | None = None
    """the processes that do this step together, where they are several"""
    notes: list[str] = field(default_factory=list)
    """sentences about what was done otherwise than asked"""

    @property
    def device(self) -> torch.device:
        return torch.device(self.place.device)

    def note(self, text: str) -> None:
        """Add a sentence, once."""
        if text not in self.notes:
            self.notes.append(text)

    def roles(self, kind: str) -> dict[str, Artifact]:
        """The inputs of one kind, by what follows `kind.` in their role, in the plan's order."""
        return {role.partition(".")[2]: item for role, item in self.inputs.items() if role.partition(".")[0] == kind}

    def images(self, split: str, device: torch.device | None = None) -> Images:
        """One split of input `data`, on the work's device or another."""
        device = self.device if device is None else device
        return load_images(self.inputs["data"], split, device, stream=self.place.stream)

    def masks(self, role: str) -> dict[str, torch.Tensor] | None:
        """The masks of an input, on the device, or None when the step has no such input."""
        if role not in self.inputs:
            return None
        return {name: mask.to(self.device) for name, mask in self.inputs[role].tensors("masks").items()}


def choose(registry: Registry[Function], choice: Mapping[str, Any]) -> Callable[..., Any]:
    """The function that a keyed choice names, with its options filled in."""
    return partial(registry[choice["name"]].function, **choice["options"])


def find_model(work: Work, model: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The name and options by which a keyed model is reached here.

    Raises StepError when own code is not what the plan found.
    """
    reach = work.access.get("model", model)
    name = reach["name"]
    if "sources" in model and sources(name) != model["sources"]:
        raise StepError(f"`{label(name)}` has changed since it was planned", "run again: it is planned anew")
    return name, reach["options"]


def build_network(work: Work, *, seed: int | None = None) -> torch.nn.Module:
    """The network of input `init`, initialized at another seed, or at none: then load a state before use."""
    about = work.inputs["init"].json("network")
    with seeded(seed or 0):
        network = build_model(*find_model(work, about["model"]), tuple(about["shape"]), about["classes"])
    return network.to(work.device)


def load_network(work: Work) -> torch.nn.Module:
    """The network of input `init` at its initialization."""
    return rewind(build_network(work), work.inputs["init"].tensors("state"))


def load_images(artifact: Artifact, split: str, device: torch.device, *, stream: bool = False) -> Images:
    """One split of a `data` artifact: train, validation or test.

    A split of several files stays on disk unless it fits into half of the memory that is free, and with `stream`
    every split does; the batches are the same.
    """
    if stream:
        return _on_disk(artifact, split, device)
    tensors = artifact.tensors(split)
    facts = artifact.tensors("statistics")
    shards = sorted(name.removesuffix(".safetensors") for name in artifact.files if name.startswith(f"{split}-"))
    if not shards:
        return Images(tensors["pixels"], tensors["labels"], facts["mean"], facts["spread"]).to(device)
    size = sum(artifact.files[f"{name}.safetensors"]["bytes"] for name in shards)
    if 2 * size <= free_memory(device):
        pixels = torch.cat([artifact.tensors(name)["pixels"] for name in shards])
        return Images(pixels, tensors["labels"], facts["mean"], facts["spread"]).to(device)
    return _on_disk(artifact, split, device)


def _on_disk(artifact: Artifact, split: str, device: torch.device) -> Images:
    shards = sorted(name.removesuffix(".safetensors") for name in artifact.files if name.startswith(f"{split}-"))
    readers = 0 if device.type == "cpu" else 4  # a processor that trains is slower than a disk; a GPU is not
    facts = artifact.tensors("statistics")
    rows = artifact.rows(shards or [split], "pixels")
    return Images(rows, artifact.tensor(split, "labels"), facts["mean"], facts["spread"], readers).to(device)


def free_memory(device: torch.device) -> int:
    """Bytes that are free where images would lie, on this machine and on the device."""
    here = available_memory()
    if device.type != "cuda":
        return here
    there, _ = torch.cuda.mem_get_info(device)
    return min(here, int(there))


def generator(*purpose: str | int) -> torch.Generator:
    """A generator on the CPU whose seed is the digest of what it is for."""
    return torch.Generator().manual_seed(seed_of(*purpose))


def gather_evidence(
    work: Work, *, seed: int, recipe: Recipe | None = None, corrupt: Callable[[Images], Images] = lambda images: images
) -> Evidence:
    """The network of input `init` under full masks; batches are drawn from input `data`'s training split.

    With a recipe there are training batches too, augmented as it says, the same whenever they are begun. `corrupt`
    puts other images in the place of the training split.
    """
    # Scores are made in float64 where their authors do, which Apple's GPUs lack.
    device = torch.device("cpu") if work.device.type == "mps" else work.device
    model = load_network(work).to(device)
    images = images_for(model, corrupt(work.images("train", device)))
    weights = {name: weight.detach() for name, weight in prunable_weights(model).items()}
    if not weights:
        raise StepError(f"the network has no prunable weight: {explain_unprunable(model)}")
    example = torch.zeros((1, *images.input_shape), device=device)
    random = generator("evidence", seed)
    return Evidence(
        model=model,
        weights=weights,
        masks={name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()},
        layers=describe_layers(model, example),
        draw=lambda count: images.sample(count, random),
        generator=random,
        example=lambda: example,
        note=work.note,
        stream=None if recipe is None else partial(training_stream, images, recipe, seed),
    )


def training_stream(images: Images, recipe: Recipe, seed: int) -> Iterator[Batch]:
    """Augmented batches without end, epoch after epoch, by what a recipe says of them."""
    random = generator("stream", seed)
    while True:
        yield from epoch(
            images, batch=recipe.batch, crop=recipe.crop, flip=recipe.flip, cutout=recipe.cutout, generator=random
        )
