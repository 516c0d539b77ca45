"""Emitted models opened again: what a run left, and files that someone else left there."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import autosparse
from autosparse.api import read_emitted
from autosparse.errors import DamagedFile, FitError, UsageError
from autosparse.exporters import Model, Preprocessing, Signature, card_fields, exporters
from autosparse.models import build_model
from autosparse.store import dump_tensors
from tests.conftest import Ended, call
from tests.unit.exporters.test_formats import about


def network(seed: int = 0) -> torch.nn.Module:
    """A small network that a card can name."""
    torch.manual_seed(seed)
    return build_model("lenet", {}, (1, 28, 28), 10)


def pruned() -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """A network whose weights below the median and second channels are pruned, and its masks."""
    plain_network = network()
    masks = {
        name: weight.abs() > weight.abs().median()
        for name, weight in plain_network.named_parameters()
        if weight.ndim > 1
    }
    with torch.no_grad():
        for name, weight in plain_network.named_parameters():
            if name in masks:
                masks[name][1] = False  # a dead channel
                weight.mul_(masks[name])
    return plain_network, masks


SIGNATURE = Signature.of((1, 28, 28), 10, [*"abcdefghij"], Preprocessing.of((1, 28, 28), [0.25], [0.5]))


@cache
def exported(format: str) -> dict[str, bytes]:
    """The files of that network in a format."""
    plain_network, masks = pruned()
    files: dict[str, bytes] = exporters[format].function(
        Model(plain_network.state_dict(), masks, network, (1, 28, 28), signature=SIGNATURE, about=about("lenet"))
    )
    return files


def left_by_a_run(folder: Path, format: str = "compact") -> torch.nn.Module:
    """The pruned network, and a folder with its files as `run` leaves them."""
    plain_network, _ = pruned()
    folder.mkdir()
    files = exported(format)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    card = {
        "format": format, **card_fields(SIGNATURE), "method": "learned", "sparsity": 0.5, "seed": 0,
        "accuracy": {"test_accuracy": 97.0},
        "network": {"model": {"name": "lenet", "version": 1, "options": {}}, "shape": [1, 28, 28], "classes": 10},
        "files": {n: {"sha256": hashlib.sha256(d).hexdigest(), "bytes": len(d)} for n, d in files.items()},
        "provenance": {"train": {"key": "0" * 64}},
    }  # fmt: skip
    (folder / "card.json").write_text(json.dumps(card))
    return plain_network.eval()


@pytest.mark.parametrize("format", [entry.name for entry in exporters if "read" in entry.facts])
def test_a_network_comes_back(tmp_path: Path, format: str) -> None:
    """Of a folder by its card, of a file into a network: the same outputs, bit for bit where the format promises it."""
    plain_network = left_by_a_run(tmp_path / "m", format)
    images = torch.randn(5, 1, 28, 28)
    name = next(name for name in exporters[format].facts["files"] if name.startswith("model"))
    file = tmp_path / "m" / name

    result = [autosparse.load(tmp_path / "m"), autosparse.load(str(file), network(seed=1))]

    for model in result:
        assert not model.training
        torch.testing.assert_close(plain_network(images), model(images))
        assert torch.equal(plain_network(images), model(images)) or not exporters[format].facts["exact"]


@pytest.mark.parametrize("wrap", [torch.nn.DataParallel, lambda model: torch.compile(model, backend="eager")])
def test_a_wrapped_network_is_loaded_into(tmp_path: Path, wrap: Callable[[Any], Any]) -> None:
    """A parallel or compiled network takes a model as the one inside does, and comes back itself."""
    plain_network = left_by_a_run(tmp_path / "m")
    wrapped = wrap(network(seed=1))

    model = autosparse.load(tmp_path / "m", wrapped)

    assert wrapped is model
    images = torch.randn(2, 1, 28, 28)
    assert torch.equal(plain_network(images), model(images))


def test_a_file_alone_does_not_say_which_network_it_is(tmp_path: Path) -> None:
    """It takes one to load into, of the same structure."""
    left_by_a_run(tmp_path / "m")
    file = tmp_path / "m" / "model.compact.safetensors"

    with pytest.raises(UsageError, match="does not say which network"):
        autosparse.load(file)
    with pytest.raises(UsageError, match="is of another network"):
        autosparse.load(file, torch.nn.Linear(2, 2))


def card_of(folder: Path) -> Any:
    """Return the card of a model."""
    return json.loads((folder / "card.json").read_text())


def changed(**values: Any) -> Callable[[Path], None]:
    """A card with other values."""

    def change(folder: Path) -> None:
        (folder / "card.json").write_text(json.dumps(card_of(folder) | values))

    return change


def with_network(**values: Any) -> Callable[[Path], None]:
    """A card of another network."""

    def change(folder: Path) -> None:
        about = card_of(folder)["network"]
        changed(network={**about, **values})(folder)

    return change


def of(name: str, **options: Any) -> Callable[[Path], None]:
    """A card of another network, by its name and options."""
    return with_network(model={"name": name, "options": options})


def rewritten(edit: Callable[[bytes], bytes], *, in_card: bool = True) -> Callable[[Path], None]:
    """Another file of tensors, which the card describes, or not."""

    def change(folder: Path) -> None:
        name = "model.compact.safetensors"
        data = edit((folder / name).read_bytes())
        (folder / name).write_bytes(data)
        if in_card:
            changed(files={name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}})(folder)

    return change


def tensors(**changes: Any) -> Callable[[bytes], bytes]:
    """The tensors with some changed."""

    def edit(data: bytes) -> bytes:
        from safetensors.torch import load

        result = load(data)
        return dump_tensors({**result, **{name.replace("__", "."): value(result) for name, value in changes.items()}})

    return edit


def header(text: str) -> Callable[[bytes], bytes]:
    """A header of one's own."""
    return lambda data: len(text).to_bytes(8, "little") + text.encode() + data[-64:]


def linked(folder: Path) -> None:
    """Link the tensors to another folder, with the same content."""
    name = folder / "model.compact.safetensors"
    name.rename(folder.parent / "elsewhere")
    name.symlink_to(folder.parent / "elsewhere")


DOUBLE = '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
HUGE = '{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'
HOSTILE = [
    pytest.param(rewritten(lambda data: data[:-1], in_card=False), "is not what card.json describes", id="cut off"),
    pytest.param(rewritten(lambda data: data[:-1]), "bytes", id="cut off, and the card says so"),
    pytest.param(rewritten(lambda data: data[::-1], in_card=False), "is not what card.json describes", id="swapped"),
    pytest.param(rewritten(lambda data: b""), "too short", id="empty"),
    pytest.param(rewritten(lambda data: os.urandom(4096)), "header", id="noise"),
    pytest.param(rewritten(header(DOUBLE)), "repeats a name", id="a name twice"),
    pytest.param(rewritten(header(HUGE)), "is cut off", id="a huge tensor"),
    pytest.param(rewritten(lambda data: (2**62).to_bytes(8, "little") + data), "header claims", id="a huge header"),
    pytest.param(rewritten(header("[" * 100_000)), "header|recursion", id="a deep header"),
    pytest.param(
        rewritten(tensors(**{"conv1.bias/shape": lambda result: torch.tensor([2**40])})),
        "more numbers",
        id="a huge shape",
    ),
    pytest.param(
        rewritten(lambda data: dump_tensors({"w": torch.tensor([float("nan")])})), "not finite", id="not a number"
    ),
    pytest.param(rewritten(lambda data: dump_tensors({"w": torch.zeros(3)})), "of another network", id="other tensors"),
    pytest.param(linked, "is not a file", id="a link"),
    pytest.param(lambda folder: (folder / "model.compact.safetensors").unlink(), "is missing", id="no tensors"),
    pytest.param(changed(format="onyx"), "does not have", id="format"),
    pytest.param(changed(format=["compact"]), "format", id="format of another type"),
    pytest.param(changed(files={}), "does not say", id="no files"),
    pytest.param(changed(files={"../../../etc/passwd": {"sha256": "", "bytes": 9}}), "does not say", id="a way out"),
    pytest.param(changed(files={"model.compact.safetensors": {"sha256": "", "bytes": -1}}), "bytes", id="negative"),
    pytest.param(changed(classes={"a": 1}), "classes", id="names of another type"),
    pytest.param(changed(images={"mean": [0.5]}), "images.std", id="half a normalization"),
    pytest.param(changed(network=[1, 2]), "network", id="network of another type"),
    pytest.param(with_network(shape=[1, 28]), "shape", id="shape"),
    pytest.param(with_network(model={"name": "resnet19"}), "does not have", id="an unknown network"),
    pytest.param(with_network(shape=[1, 2**40, 2**40]), "shape: .*more than 50,331,648 values", id="a huge image"),
    pytest.param(with_network(shape=[1, 10_000, 10_000]), "network.shape", id="a large image"),
    pytest.param(with_network(classes=2**40), "classes", id="so many classes"),
    pytest.param(with_network(classes=0), "classes", id="no classes"),
    pytest.param(of("mlp", widths=[10**400]), "cannot be built", id="a number of 400 digits"),
    pytest.param(of("mlp", widths=[1] * 20_000), "cannot be built", id="many options"),
    pytest.param(of("resnet8", width=10**6), "cannot be built", id="a wide network"),
    pytest.param(of("resnet8", width=4000), "numbers", id="more than a file"),
    pytest.param(of("wide_resnet", depth=9994), "depth", id="a deep network"),
    pytest.param(of("wide_resnet", depth=994), "more layers", id="a deep network in range"),
    pytest.param(of("wide_resnet", depth=11), "6 n", id="an impossible depth"),
    pytest.param(of("torchvision:resnet18", width_per_group=9), "damaged", id="a fault of a library"),
    pytest.param(
        changed(files={"model.compact.safetensors": {"sha256": "", "bytes": 10**18}}), "is not what", id="a huge size"
    ),
    pytest.param(
        changed(files={"model.compact.safetensors": {"sha256": "", "bytes": 10**400}}), "damaged", id="an endless size"
    ),
    pytest.param(with_network(classes=9), "of another network", id="other classes"),
    pytest.param(
        with_network(model={"name": "mlp", "options": {"widths": [10**9]}}),
        "its network cannot be built",
        id="a huge layer",
    ),
    pytest.param(with_network(model={"name": "mlp", "options": {"depth": 3}}), "depth", id="an unknown option"),
    pytest.param(
        with_network(model={"name": "timm:resnet18", "options": {"checkpoint_path": "evil.pth"}}),
        "contain strings",
        id="a file for a library",
    ),
    pytest.param(
        with_network(model={"name": "timm:resnet18", "options": {"initialization": "default", "exclude": ["fc"]}}),
        "its network has|of another network|more layers",
        id="a library's network with options of every network",
    ),
    pytest.param(
        with_network(model={"name": "timm:resnet18", "options": {"initialization": "evil"}}),
        "initialization",
        id="an option of every network",
    ),
    pytest.param(lambda folder: (folder / "card.json").write_text("{" * 10**6), "damaged", id="a deep card"),
    pytest.param(lambda folder: (folder / "card.json").write_bytes(b"0" * 4 * 10**7), "larger than", id="a huge card"),
    pytest.param(lambda folder: (folder / "card.json").write_bytes(b"\xff\xfe"), "damaged", id="a card of bytes"),
]


@pytest.mark.parametrize(("change", "text"), HOSTILE)
def test_what_is_not_as_a_run_left_it_is_refused(tmp_path: Path, change: Callable[[Path], Any], text: str) -> None:
    """One sentence, as of damage, whatever is wrong."""
    left_by_a_run(tmp_path / "m")
    change(tmp_path / "m")
    with pytest.raises(DamagedFile, match=text) as caught:
        autosparse.load(tmp_path / "m")

    assert "\n" not in caught.value.message


def test_what_another_program_opens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`inspect` compares its bytes with the card and shows the layers as pruned; loading names the program."""
    left_by_a_run(tmp_path / "m", "pt2")
    layers = [{"name": "conv1.weight", "size": 150, "kept": 75}]
    changed(accuracy={"test_accuracy": 97.0, "layers": layers})(tmp_path / "m")
    result = call(capsys, f"inspect {tmp_path / 'm'} --json").json

    assert ("pt2", 75, 150) == (result["format"], result["kept"], result["total"])
    with pytest.raises(UsageError, match=r"is for torch\.export\.load, which opens it without autosparse"):
        autosparse.load(tmp_path / "m")
    with pytest.raises(UsageError, match=r"is for torch\.export\.load"):
        autosparse.load(tmp_path / "m" / "model.pt2")
    (tmp_path / "m" / "model.pt2").write_bytes(b"another")
    with pytest.raises(DamagedFile, match=r"is not what card\.json describes"):
        autosparse.load(tmp_path / "m")


@pytest.mark.parametrize("name", ["config.json", "README.md", "model.safetensors"])
def test_every_file_of_a_card_is_compared_with_it(tmp_path: Path, name: str) -> None:
    """Those that a format may leave out too; files that no card names are not read."""
    left_by_a_run(tmp_path / "m", "hub")
    (tmp_path / "m" / "notes.txt").write_text("mine")
    opened = read_emitted(tmp_path / "m")
    (tmp_path / "m" / name).write_bytes(b"another")

    assert opened.bytes == sum(len(exported("hub")[file]) for file in exporters["hub"].facts["files"])
    with pytest.raises(DamagedFile, match=rf"{name} is not what card\.json describes"):
        read_emitted(tmp_path / "m")


def other(file: str, edit: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Another file, which the card describes."""

    def change(folder: Path) -> None:
        data = edit((folder / file).read_bytes())
        (folder / file).write_bytes(data)
        files = card_of(folder)["files"]
        changed(files={**files, file: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}})(folder)

    return change


SHRUNK, WAYS = "model.shrunk.safetensors", "model.sparse.json"


@pytest.mark.parametrize(
    ("format", "change", "text"),
    [
        ("shrunk", other(SHRUNK, lambda data: data[:-1]), "bytes"),
        ("shrunk", other(SHRUNK, tensors(conv1__weight=lambda result: torch.zeros(0, 1, 5, 5))), "no smaller form"),
        (
            "shrunk",
            other(SHRUNK, tensors(conv2__weight=lambda result: result["conv2.weight"][:, 1:])),
            "do not fit one",
        ),
        ("shrunk", other(SHRUNK, tensors(linear1__weight=lambda result: torch.zeros(2**12, 2**12))), "no smaller form"),
        ("shrunk", other(SHRUNK, lambda data: dump_tensors({"conv1.weight": torch.zeros(1)})), "is missing"),
        ("sparse", other(WAYS, lambda data: b"{"), "damaged"),
        ("sparse", other(WAYS, lambda data: b"[1]"), "does not say how layers"),
        ("sparse", other(WAYS, lambda data: b'{"fc1": {"1": "eval"}}'), "does not say how layers"),
        ("sparse", other(WAYS, lambda data: b'{"fc1": {"-1": "sparse"}}'), "does not say how layers"),
        ("sparse", other(WAYS, lambda data: b'{"fc9": {"1": "sparse"}}'), "there is no layer fc9"),
        ("sparse", other(WAYS, lambda data: b'{"": {"1": "sparse"}}'), "layer"),
    ],
)
def test_a_smaller_network_is_doubted_as_well(
    tmp_path: Path, format: str, change: Callable[[Path], Any], text: str
) -> None:
    """Layers that do not fit one another, that are larger than the network's, or are computed in no known way."""
    left_by_a_run(tmp_path / "m", format)
    change(tmp_path / "m")
    with pytest.raises(DamagedFile, match=text) as caught:
        autosparse.load(tmp_path / "m")

    assert "\n" not in caught.value.message


def test_a_link_of_ones_own_is_followed(tmp_path: Path) -> None:
    """To a folder or a file; a device is not a file, and a link in a circle leads nowhere."""
    left_by_a_run(tmp_path / "m")
    (tmp_path / "linked").symlink_to(tmp_path / "m")
    (tmp_path / "zero.safetensors").symlink_to("/dev/zero")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")

    assert isinstance(autosparse.load(tmp_path / "linked"), torch.nn.Module)
    with pytest.raises(DamagedFile, match="is not a file"):
        autosparse.load(tmp_path / "zero.safetensors", network())
    with pytest.raises(UsageError, match="there is no"):
        autosparse.load(tmp_path / "circle")


def test_own_code_is_never_imported(tmp_path: Path) -> None:
    """An error names the user code of a card; a network can be passed instead."""
    left_by_a_run(tmp_path / "m")
    code = tmp_path / "code.py"
    code.write_text("raise SystemExit('imported')\n")
    with_network(model={"name": f"{code}:build", "options": {}})(tmp_path / "m")

    with pytest.raises(UsageError, match=r"user code, .*, which loading never imports"):
        autosparse.load(tmp_path / "m")
    assert isinstance(autosparse.load(tmp_path / "m", network(1)), torch.nn.Module)


def test_inspect_tells_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Layers with their sparsity, for people and as JSON; a masked file has no card."""
    left_by_a_run(tmp_path / "m")
    shown, given = call(capsys, f"inspect {tmp_path / 'm'}"), call(capsys, f"inspect {tmp_path / 'm'} --json")
    alone = call(capsys, f"inspect {tmp_path / 'm' / 'model.compact.safetensors'} --json")

    assert (0, 0, 0) == (shown.code, given.code, alone.code)
    assert ("lenet", "learned", 97.0) == tuple(given.json[name] for name in ("network", "method", "test_accuracy"))
    assert given.json["layers"] == alone.json["layers"]
    assert ([*"abcdefghij"], []) == (given.json["classes"], alone.json["classes"])
    assert {"size": [28, 28], "channels": "L", "mean": [0.25], "std": [0.5]} == given.json["images"]
    assert "images: 28 x 28 L, (pixels / 255 - [0.25]) / [0.5]\nclasses: a, b, c, d" in shown.out
    assert 2 * given.json["kept"] == pytest.approx(given.json["total"], rel=0.02)
    left_by_a_run(tmp_path / "s", "sparse")
    other(WAYS, lambda data: b'{"conv1": {"1": "sparse", "32": "dense"}}')(tmp_path / "s")
    computed = call(capsys, f"inspect {tmp_path / 's'} --json").json["layers"][0]["computed"]
    assert {"1": "sparse", "32": "dense"} == computed
    assert "computed" in call(capsys, f"inspect {tmp_path / 's'}").out
    assert "0.5" in shown.out
    assert "█" in shown.out


@pytest.mark.parametrize("named", ["nowhere", "folder", "folder/text.txt"])
def test_inspect_of_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str], named: str) -> None:
    """Nothing there, a folder without a card, a file of another kind: exit 2, and what to name."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "text.txt").write_text("x")
    ended: Ended = call(capsys, f"inspect {tmp_path / named}")

    assert 2 == ended.code
    assert "hint: " in ended.err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", ["card.json", "model.compact.safetensors", ""])
def test_only_regular_files_are_opened(tmp_path: Path, name: str) -> None:
    """A pipe in place of the card, the tensors or the model is refused at once."""
    left_by_a_run(tmp_path / "m")
    path = tmp_path / "m" / name if name else tmp_path / "alone.compact.safetensors"
    path.unlink(missing_ok=True)
    os.mkfifo(path)

    with pytest.raises(DamagedFile, match="not a file"):
        autosparse.load(tmp_path / "m" if name else path)


def test_a_file_above_the_memory_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size is compared first."""
    left_by_a_run(tmp_path / "m")
    file = tmp_path / "model.compact.safetensors"
    with file.open("wb") as opened:
        opened.truncate(2**40)
    monkeypatch.setattr(sys.modules["autosparse.api.load"], "available_memory", lambda: 2**30)

    with pytest.raises(FitError, match=r"of 1\.1 TB is larger than 1\.07 GB of available memory"):
        autosparse.load(file)


@pytest.mark.parametrize("shape", [[1, 1, 16_000], [1, 80, 6000], [5000, 8, 8]])
def test_a_signal_may_be_long(shape: list[int]) -> None:
    """The number of values has a limit, not a side: signals, spectrograms, many channels."""
    card = {"format": "compact", "files": {}, "network": {"model": {"name": "mlp"}, "shape": shape, "classes": 2}}

    assert shape == sys.modules["autosparse.api.load"].Card.model_validate(card).network.shape


EXHAUSTED = RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (MemoryError(), FitError, "loading .* takes more memory than there is: MemoryError"),
        (EXHAUSTED, FitError, "loading .* takes more memory than there is: RuntimeError"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), FitError, "loading .* takes more memory"),
        (ImportError("failed to map segment"), ImportError, "failed to map segment"),
        (FitError("too large"), FitError, "too large"),
        (KeyError("w"), DamagedFile, "is damaged"),
    ],
)
@pytest.mark.parametrize("part", ["json.loads", "build_model"])
def test_a_lack_of_memory_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, error: Exception, kind: type[Exception], text: str
) -> None:
    """While the files are read, and while the network of the card is built."""

    def fail(*_: object, **__: object) -> None:
        raise error

    left_by_a_run(tmp_path / "m")
    module = sys.modules["autosparse.api.load"]
    monkeypatch.setattr(module.json if part == "json.loads" else module, part.removeprefix("json."), fail)

    with pytest.raises(kind, match=text):
        autosparse.load(tmp_path / "m")
