"""Networks by name from torchvision and timm, and how first weights are drawn."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from autosparse.core.weights import prunable_weights
from autosparse.errors import AutosparseError, FitError, MissingExtra, UsageError
from autosparse.models import Start, build_model, facts, identify_model, models
from autosparse.models.facts import trace_network
from tests.unit.core.conftest import seeded

DRAWN = ("kaiming_normal", "kaiming_uniform", "orthogonal")
SHAPE = (3, 32, 32)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and an empty directory to be in."""
    monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


def weights(name: str, shape: tuple[int, int, int] = (1, 8, 8), seed: int = 0, **options: Any) -> Mapping[str, Any]:
    """The prunable weights of a fresh network, narrow where it has a width."""
    if "width" in models[name].options:
        options = {"width": 4, **options}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return prunable_weights(build_model(name, options, shape, 10))


@pytest.mark.parametrize("how", DRAWN)
@pytest.mark.parametrize("name", models.names)
def test_every_network_can_be_drawn_in_every_way(name: str, how: str) -> None:
    """Every prunable weight is finite, another than the network's own, and the seed's."""
    original, drawn = weights(name), weights(name, initialization=how)
    again, other = weights(name, initialization=how), weights(name, initialization=how, seed=1)

    assert list(original) == list(drawn)
    for key, weight in drawn.items():
        assert bool(weight.isfinite().all()), key
        assert not torch.equal(original[key], weight), key
        assert torch.equal(again[key], weight), key
        assert not torch.equal(other[key], weight), key


@pytest.mark.parametrize("name", models.names)
def test_own_is_what_a_network_does_itself(name: str) -> None:
    """`initialization: default` changes nothing."""
    original, default = weights(name, initialization="default"), weights(name)

    assert all(torch.equal(default[key], weight) for key, weight in original.items())
    assert "default" == Start().initialization


@pytest.mark.parametrize("how", ["kaiming_normal", "kaiming_uniform"])
def test_weights_are_drawn_for_relu(how: str) -> None:
    """Their variance is two over the fan-in; everything but prunable weights is what the network made it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_model("mlp", {"widths": (200, 100), "initialization": how}, (1, 20, 20), 10)
        torch.manual_seed(0)
        plain = build_model("mlp", {"widths": (200, 100)}, (1, 20, 20), 10)
    for weight in list(prunable_weights(network).values())[:2]:
        assert pytest.approx(2 / weight.shape[1], rel=0.05) == float(weight.detach().var())
    biases = {key: value for key, value in network.named_parameters() if key not in prunable_weights(network)}
    assert biases
    assert all(torch.equal(dict(plain.named_parameters())[key], value) for key, value in biases.items())


def test_orthogonal_rows() -> None:
    """Rows of a weight that is wide have length √2 and are at right angles."""
    weight = next(iter(weights("mlp", initialization="orthogonal", widths=(20, 10)).values()))

    torch.testing.assert_close(2 * torch.eye(20), (weight @ weight.T).detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet10t"])
def test_networks_of_libraries(name: str, cache: Path) -> None:
    """They are built for the images and classes they get, and are remembered once they were traced."""
    assert {"name": name} == identify_model(name, {}, SHAPE, 7)
    (memory,) = (cache / "memory").iterdir()
    assert {"name": name} == identify_model(name, {}, SHAPE, 7)
    assert [memory] == list((cache / "memory").iterdir())

    network = build_model(name, {"initialization": "orthogonal"}, SHAPE, 7).eval()
    with torch.no_grad():
        assert (2, 7) == network(torch.rand(2, *SHAPE, generator=seeded())).shape


def test_options_of_a_library_are_passed_on() -> None:
    """Options are those of the library's own function."""
    plain, other = (
        build_model("torchvision:resnet18", options, SHAPE, 5) for options in ({}, {"zero_init_residual": True})
    )

    assert all(bool((module == 0).all()) for key, module in other.named_parameters() if key.endswith("bn2.weight"))
    assert all(bool((module == 1).all()) for key, module in plain.named_parameters() if key.endswith("bn2.weight"))
    assert 1 == prunable_weights(build_model("timm:resnet10t", {}, (1, 32, 32), 5))["conv1.0.weight"].shape[1]


def test_networks_that_look_at_their_weights() -> None:
    """A network that does not build on the meta device is traced on the CPU."""
    assert {"name": "torchvision:regnet_x_400mf"} == identify_model("torchvision:regnet_x_400mf", {}, SHAPE, 5)


@pytest.mark.parametrize(
    ("name", "options", "shape", "message", "hint"),
    [
        ("torchvision:resnet19", {}, SHAPE, "torchvision has no network 'resnet19'", "did you mean `resnet1"),
        ("torchvision:ResNet18", {}, SHAPE, "torchvision has no network 'ResNet18'", "did you mean `resnet18`?"),
        ("torchvision:zzz", {}, SHAPE, "torchvision has no network 'zzz'", "list_models"),
        ("torchvision:fcn_resnet50", {}, SHAPE, "torchvision has no network", ""),
        ("torchvision:resnet18", {"widht": 3}, SHAPE, "torchvision:resnet18 cannot be built: .*'widht'", "options"),
        ("torchvision:resnet18", {}, (1, 8, 8), "takes images of 3 channels but", "channels: 3"),
        (
            "torchvision:alexnet",
            {},
            SHAPE,
            "alexnet` does not take images of 3 x 32 x 32: .*small",
            "size: 224",
        ),
        ("timm:resnet10x", {}, SHAPE, "timm has no network 'resnet10x'", "did you mean `resnet10t`?"),
        ("timm:resnet10t", {"widht": 3}, SHAPE, "timm:resnet10t cannot be built: .*'widht'", "options"),
        ("timm:vit_tiny_patch16_224", {}, SHAPE, "does not take images of 3 x 32 x 32: .*Input height", "size: 224"),
    ],
)
def test_networks_that_cannot_be(
    name: str, options: dict[str, Any], shape: tuple[int, int, int], message: str, hint: str
) -> None:
    """A name that a library does not have is an error before anything runs, and nothing is downloaded."""
    with pytest.raises(UsageError, match=message) as caught:
        identify_model(name, options, shape, 5)

    assert hint in (caught.value.hint or "")


def test_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named, and the exit code is that of a missing requirement."""
    monkeypatch.setitem(sys.modules, "timm", None)

    with pytest.raises(MissingExtra, match="needs timm") as caught:
        build_model("timm:resnet10t", {}, SHAPE, 5)
    assert (5, "run `pip install 'autosparse[timm]'`") == (caught.value.exit_code, caught.value.hint)


def test_a_file_that_an_option_of_an_own_network_names_is_known_by_its_content(tmp_path: Path) -> None:
    """The path of a file does not enter keys, its content does."""
    code = tmp_path / "net.py"
    code.write_text(
        "import json, pathlib, torch\n"
        "def build(shape, classes, *, widths):\n"
        "    width = json.loads(pathlib.Path(widths).read_text())\n"
        "    flat = torch.nn.Flatten()\n"
        "    return torch.nn.Sequential(flat, torch.nn.Linear(192, width), torch.nn.Linear(width, classes))\n"
    )

    def identified(path: str, text: str) -> object:
        file = tmp_path / path / "widths.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        options = {"widths": str(file), "initialization": "orthogonal"}
        return identify_model(f"{code}:build", options, (3, 8, 8), 5)

    first = identified("here", "7")

    assert first == identified("there", "7")
    assert first != identified("there", "8")
    assert str(tmp_path) not in str(first)
    assert "'initialization': 'orthogonal'" in str(first)


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("import sys; sys.exit(0)", 2, r"net.py:\d: calling `net.py:build` failed: SystemExit: 0"),
        ("raise GeneratorExit", 2, r"net.py:\d: calling `net.py:build` failed: GeneratorExit"),
        ("raise BaseException('odd')", 2, r"net.py:\d: calling `net.py:build` failed: BaseException: odd"),
        ("build(s, c)", 2, r"net.py:\d: calling `net.py:build` failed: RecursionError"),
        ("return nn.Linear(10**6, 10**6)", 3, "(take more than .* GiB of|takes more) memory"),
        ("torch.empty(10**14, device='cpu')", 3, "takes more memory than there is: .*DefaultCPUAllocator"),
        ("raise MemoryError", 3, "takes more memory than there is: MemoryError"),
    ],
)
def test_an_own_network_cannot_end_the_program(tmp_path: Path, line: str, code: int, message: str) -> None:
    """Its exits are errors of its code; a network above the memory does not fit."""
    (tmp_path / "net.py").write_text(f"import torch\nfrom torch import nn\ndef build(s, c):\n    {line}\n")
    with pytest.raises(AutosparseError, match=message) as caught:
        identify_model(f"{tmp_path / 'net.py'}:build", {}, (1, 8, 8), 10)

    assert code == caught.value.exit_code


def test_an_own_network_is_measured_while_it_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that a network registers twice, or drops, count once or no more."""
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def build(s, c, layers):\n"
        "    kept = nn.Linear(64, c)\n"
        "    for _ in range(9):\n"
        "        nn.Linear(64, c).weight = kept.weight\n"
        "    return nn.Sequential(nn.Flatten(), *[nn.Linear(64, 64) for _ in range(layers)], kept)\n"
    )
    monkeypatch.setattr(facts, "available_memory", lambda: 4 * (64 * 64 + 64 + 2 * 64 * 10 + 20))
    name = f"{tmp_path / 'net.py'}:build"

    assert identify_model(name, {"layers": 1}, (1, 8, 8), 10)
    with pytest.raises(FitError, match=r"the weights of model `net.py:build` take more than 0.0 GiB of memory"):
        identify_model(name, {"layers": 2}, (1, 8, 8), 10)


def test_a_factory_may_cache_tensors(tmp_path: Path) -> None:
    """It is never called on the meta device: the network's facts and weights come from the same tensors."""
    (tmp_path / "net.py").write_text(
        "import functools, torch\n"
        "from torch import nn\n"
        "@functools.cache\n"
        "def positions(n):\n"
        "    return torch.arange(n) / n\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, c):\n"
        "        super().__init__()\n"
        "        self.head = nn.Linear(64, c)\n"
        "        self.positions = positions(64)\n"
        "    def forward(self, x):\n"
        "        return self.head(x.flatten(1) + self.positions)\n"
        "def build(s, c):\n"
        "    return Net(c)\n"
    )
    name = f"{tmp_path / 'net.py'}:build"
    traced = trace_network("own", name, {}, (1, 8, 8), 10)

    assert identify_model(name, {}, (1, 8, 8), 10)
    assert 650 == traced.parameters
    assert "cpu" == build_model(name, {}, (1, 8, 8), 10).positions.device.type
