"""The evidence that criteria and labels look at, from `init` and `data` artifacts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from autosparse.core.evidence import Batch, Evidence
from autosparse.core.images import Images, epoch
from autosparse.core.torch_compat.memory_layout import images_for
from autosparse.core.training.loop import Recipe
from autosparse.core.weights import describe_layers, explain_unprunable, prunable_weights
from autosparse.errors import StepError
from autosparse.lazy_torch import torch
from autosparse.steps.work import Work, generator, load_network


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
