"""Training by the weights that are left: the same outputs and gradients, any number of threads, the same bytes."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from autosparse.core.sparse.training import share_left, sparse_kernels
from autosparse.core.training.loop import FEW, train
from autosparse.core.training.recipe import Recipe
from autosparse.core.weights import prunable_weights
from autosparse.errors import MissingExtra
from autosparse.lazy_torch import torch
from autosparse.measure.probe import made_up_images
from autosparse.models import build_model

CONVOLUTIONS: dict[str, tuple[dict[str, Any], tuple[int, int, int]]] = {
    "usual": ({"kernel_size": 3, "padding": 1}, (8, 8, 16)),
    "odd images": ({"kernel_size": 3, "padding": 1}, (9, 7, 5)),
    "stride": ({"kernel_size": 3, "stride": 2, "padding": 1}, (9, 8, 4)),
    "shortcut": ({"kernel_size": 1, "stride": 2}, (8, 9, 4)),
    "stride beyond the kernel": ({"kernel_size": 2, "stride": 3}, (10, 10, 3)),
    "depthwise": ({"kernel_size": 3, "padding": 1, "groups": 8}, (8, 8, 3)),
    "groups, dilation": ({"kernel_size": 5, "padding": 2, "dilation": 2, "groups": 2}, (11, 9, 3)),
    "no padding": ({"kernel_size": 3, "padding": "valid"}, (4, 3, 2)),
    "no bias": ({"kernel_size": 3, "padding": (0, 2), "bias": False}, (6, 6, 3)),
    "larger than the image": ({"kernel_size": 7, "stride": 2, "padding": 3}, (5, 5, 2)),
    "one pixel": ({"kernel_size": 3, "padding": 1}, (1, 1, 2)),
}


def gradients(module: torch.nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """Outputs, and gradients of images and parameters for random gradients of outputs."""
    module.zero_grad()
    inputs = images.clone().requires_grad_()
    outputs = module(inputs)
    outputs.backward(torch.randn(outputs.shape, generator=torch.Generator().manual_seed(1)).to(outputs.dtype))
    assert inputs.grad is not None
    result = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    return [outputs.detach(), inputs.grad, *(gradient.clone() for gradient in result)]


def close(expected: list[torch.Tensor], result: list[torch.Tensor]) -> bool:
    """Equal up to rounding."""
    return all(
        a.shape == b.shape and bool((a - b).abs().max() <= 1e-5 * (1 + a.abs().max()))
        for a, b in zip(expected, result, strict=True)
    )


@pytest.mark.parametrize("left", [0.0, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_a_convolution_and_its_gradients(kind: str, left: float) -> None:
    """Those of torch; gradients of masked weights are zero, and threads change no byte."""
    options, (height, width, images) = CONVOLUTIONS[kind]
    torch.manual_seed(0)
    module = torch.nn.Conv2d(8, 8, **options)
    mask = torch.rand(module.weight.shape) < left
    with torch.no_grad():
        module.weight *= mask
    pixels = torch.randn(images, 8, height, width)
    expected = gradients(module, pixels)
    expected[2] *= mask
    result = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        with sparse_kernels(module, {"weight": mask}):
            result.append(gradients(module, pixels))
        assert threads == torch.get_num_threads()
    torch.set_num_threads(1)

    assert close(expected, result[0])
    assert all(torch.equal(one, other) for one, other in zip(*result, strict=True))
    assert "forward" not in module.__dict__


def test_batch_normalization_and_its_gradients() -> None:
    """Far from zero too, with its running statistics; in evaluation mode those are taken."""
    torch.manual_seed(0)
    module, other = torch.nn.BatchNorm2d(6), torch.nn.BatchNorm2d(6)
    torch.nn.init.normal_(module.weight)
    torch.nn.init.normal_(module.bias)
    other.load_state_dict(module.state_dict())
    pixels = 3 * torch.randn(9, 6, 5, 4) + 100
    expected = gradients(module, pixels)
    with sparse_kernels(other, {}):
        result = gradients(other, pixels)
        evaluated = other.eval()(pixels)

    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in zip(expected, result, strict=True))
    assert close([*module.state_dict().values()], [*other.state_dict().values()])
    assert torch.equal(other(pixels), evaluated)


@pytest.mark.parametrize("module", [torch.nn.MaxPool2d(2), torch.nn.MaxPool2d(3), torch.nn.MaxPool2d(3, 2, padding=1)])
def test_max_pooling_and_its_gradients(module: torch.nn.MaxPool2d) -> None:
    """The first of several largest numbers has the gradient, as in torch."""
    pixels = torch.randint(0, 3, (4, 5, 7, 8)).float()
    expected = gradients(module, pixels)
    with sparse_kernels(module, {}):
        result = gradients(module, pixels)

    assert all(torch.equal(a, b) for a, b in zip(expected, result, strict=True))


def masked(name: str, left: float) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """A network and random masks."""
    torch.manual_seed(0)
    model = build_model(name, {}, (3, 16, 16), 10)
    return model, {name: torch.rand(weight.shape) < left for name, weight in prunable_weights(model).items()}


@pytest.mark.parametrize("name", ["resnet8", "vgg", "mobilenet", "torchvision:resnet18"])
def test_a_network_and_its_gradients(name: str) -> None:
    """As near to float64 as torch's own, and no masked weight of a convolution has a gradient."""
    model, masks = masked(name, 0.05)
    with torch.no_grad():
        for weight, mask in zip(prunable_weights(model).values(), masks.values(), strict=True):
            weight *= mask
    pixels = torch.randn(32, 3, 16, 16)
    exact = gradients(copy.deepcopy(model).double(), pixels.double())
    plain = gradients(copy.deepcopy(model), pixels)
    with sparse_kernels(model, masks):
        result = gradients(model, pixels)
    names = [name for name, _ in model.named_parameters()]
    left = [torch.ones(()), torch.ones(()), *(masks.get(name, torch.ones(())) for name in names)]
    off = [
        max(float(((one - other) * mask).abs().max()) for one, other, mask in zip(exact, values, left, strict=True))
        for values in (plain, result)
    ]

    assert off[1] < 2 * off[0] + 1e-5
    for name, weight in prunable_weights(model).items():
        assert weight.grad is not None
        assert weight.ndim < 4 or not weight.grad[~masks[name]].any()


def test_a_training_ends_where_torch_s_ends() -> None:
    """Up to rounding; no masked weight comes back, and the layers are afterwards as they were."""
    images = made_up_images(64, (3, 16, 16), 10, torch.device("cpu"))
    recipe = Recipe(epochs=1, batch=32, lr=0.01, precision="float32")
    ended = []
    for kernels in ("dense", "sparse"):
        model, masks = masked("resnet8", 0.05)
        asked = replace(recipe, kernels=kernels)
        train(model, images, asked, torch.Generator().manual_seed(0), masks=masks)
        ended.append(model.state_dict())
        assert all(not weight[~masks[name]].any() for name, weight in prunable_weights(model).items())
        assert not any("forward" in module.__dict__ for module in model.modules())

    assert all(torch.allclose(one, ended[1][name], rtol=1e-2, atol=2e-4) for name, one in ended[0].items())
    assert any(not torch.equal(one, ended[1][name]) for name, one in ended[0].items())


def test_where_more_is_left_it_is_trained_as_ever() -> None:
    """To the byte; so is a network without masks."""
    images = made_up_images(32, (3, 16, 16), 10, torch.device("cpu"))
    recipe = Recipe(epochs=1, batch=32, precision="float32")
    example = torch.zeros(1, 3, 16, 16)
    for left in (0.5, None):
        ended = []
        for kernels in ("dense", "sparse"):
            model, masks = masked("resnet8", left or 1.0)
            asked = replace(recipe, kernels=kernels)
            train(model, images, asked, torch.Generator().manual_seed(0), masks=masks if left else None)
            ended.append(model.state_dict())
        assert share_left(model, masks, example) > FEW
        assert all(torch.equal(one, ended[1][name]) for name, one in ended[0].items())


def test_layers_that_other_code_computes_are_left_to_it() -> None:
    """A layer with a custom forward pass, another padding, or other strides."""

    class Custom(torch.nn.Conv2d):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input)

    class Inside(torch.nn.Conv2d):
        def _conv_forward(self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
            outputs: torch.Tensor = super()._conv_forward(input, 2 * weight, bias)
            return outputs

    torch.manual_seed(0)
    modules: list[Callable[[], torch.nn.Module]] = [
        lambda: Custom(3, 3, 3),
        lambda: Inside(3, 3, 3),
        lambda: torch.nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular"),
        lambda: torch.nn.Conv2d(3, 3, 3, stride=(1, 2)),
        lambda: torch.nn.Conv2d(3, 3, 3, padding="same"),
        lambda: torch.nn.BatchNorm2d(3, affine=False),
        lambda: torch.nn.BatchNorm2d(3, momentum=None),
    ]
    pixels = torch.randn(4, 3, 6, 6)
    for make in modules:
        module = make()
        masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in prunable_weights(module).items()}
        expected = gradients(module, pixels)
        with sparse_kernels(module, masks):
            assert all(torch.equal(a, b) for a, b in zip(expected, gradients(module, pixels), strict=True))


def test_without_numba_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of a traceback."""
    monkeypatch.setitem(sys.modules, "autosparse.core.sparse.training", None)
    model, masks = masked("resnet8", 0.02)
    images = made_up_images(32, (3, 16, 16), 10, torch.device("cpu"))
    with pytest.raises(MissingExtra, match="needs numba"):
        train(model, images, Recipe(epochs=1, kernels="sparse"), torch.Generator(), masks=masks)
