"""A standard PyTorch training loop (DataLoader, NCHW, float32), the reference for training speed."""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from autosparse.core.images import Images
from autosparse.core.training.recipe import Recipe, learning_rate, training_steps_of
from autosparse.lazy_torch import torch
from autosparse.measure.probe import clock, made_up_images
from autosparse.models import build_model

WARM_UP = 2
"""Warm-up steps, excluded from a measurement of speed."""


class Pictures:
    """A dataset in memory as torchvision's are: each item a PIL image, transformed on access."""

    def __init__(self, images: Images, *, crop: int = 0, flip: bool = False) -> None:
        assert isinstance(images.pixels, torch.Tensor)
        self._pixels, self._labels = images.pixels.cpu().numpy(), images.labels.tolist()
        self._mean, self._spread = images.mean.tolist(), images.spread.tolist()
        self._crop, self._flip = crop, flip

    @cached_property
    def _transform(self) -> Callable[[Any], torch.Tensor]:
        from torchvision import transforms

        moves: list[Any] = [transforms.RandomCrop(self._pixels.shape[1:3], padding=self._crop)] if self._crop else []
        moves += [transforms.RandomHorizontalFlip()] if self._flip else []
        composed = transforms.Compose([*moves, transforms.ToTensor(), transforms.Normalize(self._mean, self._spread)])
        return lambda picture: composed(picture)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        from PIL import Image

        pixels = self._pixels[number]
        return self._transform(Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)), self._labels[
            number
        ]


def train_plainly(
    model: torch.nn.Module,
    images: Images,
    recipe: Recipe,
    *,
    masks: Mapping[str, torch.Tensor] | None = None,
    readers: int = 2,
    observe: Callable[[int], None] = lambda step: None,
) -> None:
    """Train `model` in place with SGD in a standard PyTorch loop: NCHW, float32, masks multiplied in Python.

    A DataLoader of `readers` processes transforms images one at a time; `observe` gets the steps done before each.
    """
    device = images.labels.device
    loader: Any = torch.utils.data.DataLoader(
        Pictures(images, crop=recipe.crop, flip=recipe.flip),  # type: ignore[arg-type]
        recipe.batch,
        shuffle=True,
        num_workers=readers,
        persistent_workers=readers > 0,
        pin_memory=device.type == "cuda",
    )
    optimizer = torch.optim.SGD(
        model.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=recipe.nesterov
    )
    steps = training_steps_of(recipe, len(images))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate(recipe, min(1.0, step / steps)))
    _multiply(model, masks or {})
    model.train()
    batches = itertools.islice(itertools.chain.from_iterable(itertools.repeat(loader)), steps)
    for step, (inputs, labels) in enumerate(batches):
        observe(step)
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(inputs.to(device)), labels.to(device))
        loss.backward()
        optimizer.step()
        schedule.step()
        _multiply(model, masks or {})


def accuracy_plainly(model: torch.nn.Module, images: Images) -> float:
    """Return the share of correctly classified images, in percent."""
    device = images.labels.device
    model.eval()
    loader: Any = torch.utils.data.DataLoader(Pictures(images), 1000)  # type: ignore[arg-type]
    with torch.no_grad():
        correct = sum(int((model(inputs.to(device)).argmax(1).cpu() == labels).sum()) for inputs, labels in loader)
    return 100 * correct / len(images)


def _multiply(model: torch.nn.Module, masks: Mapping[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in masks:
                parameter.mul_(masks[name])


def main() -> None:
    """Answer requests until the input ends."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # output of user code must not mix with answers
        for line in sys.stdin:
            answers.write(f"{_rate(json.loads(line))}\n")
            answers.flush()


def _rate(request: Mapping[str, Any]) -> float:
    torch.set_num_threads(request["threads"])
    device, steps, recipe = torch.device(request["device"]), request["steps"], Recipe(epochs=1, batch=request["batch"])
    shape, classes = tuple(request["shape"]), request["classes"]
    images = made_up_images((WARM_UP + steps) * recipe.batch, shape, classes, device)
    model = build_model(request["name"], request["options"], shape, classes).to(device)
    begun = 0.0

    def observe(step: int) -> None:
        nonlocal begun
        if step == WARM_UP:
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            begun = time.perf_counter()

    clock(lambda: train_plainly(model, images, recipe, readers=request["readers"], observe=observe), device)
    return float(steps * recipe.batch / (time.perf_counter() - begun))


if __name__ == "__main__":
    main()
