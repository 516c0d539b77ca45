"""Trained starts: files of every form, those that do not fit, and the weights of libraries in local caches."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from autosparse.core.weights import Tensors, state_of
from autosparse.errors import AutosparseError, FitError, MissingData, StepError, UsageError
from autosparse.models import build_model, split_start, trained
from autosparse.store import dump_tensors

SHAPE = (1, 8, 8)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and an empty directory to be in."""
    for name in ("AUTOSPARSE_CACHE_DIR", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def network(seed: int = 0, classes: int = 10, **options: Any) -> torch.nn.Module:
    """A small network with the weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_model("resnet8", {"width": 2, **options}, SHAPE, classes)


def loaded(file: str | Path, into: torch.nn.Module | None = None, **written: Any) -> tuple[Tensors, tuple[str, ...]]:
    """The state of a network that starts from a file, and the notes on it."""
    options, weights = split_start("resnet8", {"initialization": {"file": str(file), **written}})
    assert weights is not None
    assert {"initialization": "default"} == options
    target = into or network()
    notes = weights.load(target, weights.identity, SHAPE, 10)
    return state_of(target), notes


def equal(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    """Whether two states have equal names and numbers."""
    return [*one] == [*other] and all(torch.equal(one[name], other[name]) for name in one)


def prefixed(*prefixes: str) -> Callable[[Tensors], Any]:
    """Names as wrappers of a network save them."""
    return lambda state: {"".join(prefixes) + name: tensor for name, tensor in state.items()}


FORMS: dict[str, Callable[[Tensors], Any]] = {
    "plain": lambda state: state,
    "nested": lambda state: {"epoch": 3, "state_dict": state},
    "twice nested": lambda state: {"model": {"model_state_dict": state}},
    "DDP": prefixed("module."),
    "compiled DDP": prefixed("_orig_mod.", "module."),
    "Lightning": lambda state: {"state_dict": {**prefixed("model.")(state)}, "callbacks": {}},
    "a compiled part": lambda state: {name.replace("stages.", "stages._orig_mod."): one for name, one in state.items()},
    "old, without counters": lambda state: {name: one for name, one in state.items() if "batches" not in name},
}


@pytest.mark.parametrize("form", FORMS)
def test_checkpoints_of_every_form(form: str) -> None:
    """Nested states and prefixes of wrappers lead to the same start."""
    state = state_of(network(1))
    torch.save(FORMS[form](state), "w.pt")

    assert not equal(state, state_of(network()))
    assert equal(state, loaded("w.pt")[0])


def test_safetensors_and_the_old_format() -> None:
    """The content decides on the format, not the suffix."""
    state = state_of(network(1))
    Path("w.pth").write_bytes(dump_tensors(state))
    torch.save(state, "w.safetensors", _use_new_zipfile_serialization=False)

    assert equal(state, loaded("w.pth")[0])
    assert equal(state, loaded("w.safetensors")[0])


def test_precision_is_converted_with_a_note() -> None:
    """Half precision becomes float32, also where counters were converted too."""
    state = state_of(network(1))
    torch.save({name: one.half() for name, one in state.items()}, "w.pt")
    start, notes = loaded("w.pt")

    assert all(one.dtype == state[name].dtype for name, one in start.items())
    assert ("56 tensors of float16 are converted to float32",) == notes
    torch.testing.assert_close(start, state, rtol=1e-3, atol=1e-3)


def test_skipped_tensors_keep_their_random_weights() -> None:
    """A classifier of other classes keeps the seed's weights; all other tensors are the file's."""
    state, fresh = state_of(network(1, classes=7)), state_of(network())
    torch.save({**state, "loss.weight": torch.ones(3)}, "w.pt")
    start, notes = loaded("w.pt", skip=("head.*", "loss.*"))

    assert ("head.weight, head.bias keep the random initialization of the seed",) == notes
    for name, tensor in start.items():
        assert torch.equal(tensor, (fresh if name.startswith("head") else state)[name]), name


class Tied(torch.nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
        self.second.weight = self.first.weight


def test_tied_weights_need_one_name() -> None:
    """A file may leave out the second name of a tensor, as safetensors does."""
    torch.save({name: one for name, one in Tied().state_dict().items() if name != "second.weight"}, "w.pt")

    assert torch.equal(*(loaded("w.pt", Tied())[0][f"{name}.weight"] for name in ("first", "second")))


def test_tied_weights_have_one_value() -> None:
    """Two values of one tensor, or one name of it skipped, are refused."""
    torch.save(Tied().state_dict(), "w.pt")
    loaded("w.pt", Tied())
    with pytest.raises(UsageError, match=r"^first\.weight, second\.weight are one tensor of the network") as caught:
        loaded("w.pt", Tied(), skip=("second.*",))
    assert "skip `first.weight` as well" == caught.value.hint

    torch.save({**Tied().state_dict(), "second.weight": torch.ones(3, 3)}, "w.pt")
    with pytest.raises(UsageError, match=r"`first.weight` and `second.weight` of w.pt differ"):
        loaded("w.pt", Tied())


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("evil",)


def altered(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Tensors], Any]:
    """A state with another first weight."""
    return lambda state: {**state, "stem.weight": change(state["stem.weight"])}


def cycle() -> Any:
    """A checkpoint that holds itself."""
    made: dict[str, Any] = {}
    made["model"] = made
    return made


BAD: dict[str, tuple[Callable[[Tensors], Any], str]] = {
    "classes": (lambda _: state_of(network(classes=7)), r"`head.weight` is \[7, 8\] in the file and \[10, 8\] in the"),
    "missing": (lambda s: {k: v for k, v in s.items() if k != "stem.weight"}, "`stem.weight` is not in the file"),
    "more": (lambda state: {**state, "loss": torch.ones(1)}, "`loss` is not in the network"),
    "other": (lambda state: {"a.b": torch.ones(1)}, "no tensor of w.pt is one of the network: it has `a.b`, the"),
    "not finite": (altered(lambda weight: weight / 0), "`stem.weight` has values that are not finite"),
    "above float32": (altered(lambda weight: weight.double() * 1e60), "`stem.weight` has values that are not finite"),
    "integers": (altered(torch.Tensor.long), "`stem.weight` is of int64 in the file and of float32 in the network"),
    "complex": (altered(lambda weight: weight + 1j), "`stem.weight` is of complex64 in the file"),
    "no numbers": (altered(lambda weight: weight.to("meta")), "`stem.weight` is no dense tensor with numbers"),
    "sparse": (altered(torch.Tensor.to_sparse), "`stem.weight` is no dense tensor with numbers"),
    "twice": (lambda state: {**state, "module.head.bias": torch.ones(10)}, "names `head.bias` twice"),
    "a cycle": (lambda _: cycle(), "w.pt holds no named tensors"),
    "nothing": (lambda state: {"epoch": 1}, "w.pt holds no named tensors"),
    "a list": (lambda state: [1], "w.pt holds no named tensors"),
    "code": (lambda state: {"state_dict": state, "args": Evil()}, r"holds pickled code, which is never run: posix.mk"),
    "a network": (lambda state: torch.nn.Linear(2, 2), "holds pickled code, which is never run: torch.nn.modules"),
}


@pytest.mark.parametrize("case", BAD)
def test_tensors_that_do_not_fit(here: Path, case: str) -> None:
    """One line names the tensors; code in a pickle never runs."""
    make, message = BAD[case]
    torch.save(make(state_of(network(1))), "w.pt")
    with pytest.raises(UsageError, match=message) as caught:
        loaded("w.pt")

    assert caught.value.hint
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400
    assert not (here / "evil").exists()


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", b"PK\x03\x04 no archive", b"\x20\0\0\0\0\0\0\0{" + 31 * b"x", pickle.dumps(Evil()), 99 * b"\x80"],
)
def test_files_without_tensors(here: Path, data: bytes) -> None:
    """Any bytes are one line, and run nothing."""
    Path("w.pt").write_bytes(data)
    with pytest.raises(UsageError, match=r"w\.pt (is no file|is neither|holds pickled)") as caught:
        loaded("w.pt")

    assert "\n" not in caught.value.message
    assert not (here / "evil").exists()


@pytest.mark.parametrize("format", ["pt", "safetensors"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_truncated_files(format: str, share: float) -> None:
    """A download that stopped is no start."""
    torch.save(state_of(network()), "w.pt")
    Path("w.safetensors").write_bytes(dump_tensors(state_of(network())))
    data = Path(f"w.{format}").read_bytes()
    Path(f"w.{format}").write_bytes(data[: int(len(data) * share)])

    with pytest.raises(UsageError, match=r"is no file of weights, or damaged|neither"):
        loaded(f"w.{format}")


def test_files_that_cannot_be_read(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe, a folder and a missing file are missing data; a huge file is not even read."""
    os.mkfifo("pipe")
    Path("folder").mkdir()
    for name in ("pipe", "folder", "nowhere"):
        with pytest.raises(MissingData, match=f"{name} (cannot be read|does not exist)") as caught:
            loaded(here / name)
        assert ("name a regular file" == caught.value.hint) == (name != "nowhere")
    with open("huge", "wb") as file:
        file.truncate(2**40)
    monkeypatch.setattr(trained, "available_memory", lambda: 2**35)
    with pytest.raises(FitError, match=r"huge of 1.1 TB does not fit twice"):
        loaded("huge")


def test_patterns_that_match_nothing() -> None:
    """A misspelt tensor is a mistake."""
    torch.save(state_of(network(1)), "w.pt")
    with pytest.raises(UsageError, match=r"`skip` names `haed.weight`, which matches no tensor") as caught:
        loaded("w.pt", skip=("haed.weight",))

    assert "did you mean `head.weight`?" == caught.value.hint
    with pytest.raises(UsageError, match=r"^`skip` leaves no tensor of w.pt to load"):
        loaded("w.pt", skip=("*",))


def test_names_with_one_prefix() -> None:
    """The hint names the prefix of a wrapper's attribute."""
    torch.save(prefixed("encoder.net.")(state_of(network(1))), "w.pt")
    with pytest.raises(UsageError, match=r"no tensor of w.pt is one of the network") as caught:
        loaded("w.pt")

    assert "remove `encoder.net.` from the names of its tensors" == caught.value.hint


def test_the_identity_is_the_content(here: Path) -> None:
    """A moved file is the same start, a changed one another; a pinned digest stands for a missing file."""

    def identity(file: str, **written: Any) -> Mapping[str, Any]:
        weights = split_start("resnet8", {"initialization": {"file": file, **written}})[1]
        assert weights is not None
        return weights.identity

    torch.save(state_of(network(1)), "w.pt")
    first = identity("w.pt")
    Path("w.pt").rename("v.pt")

    assert first == identity("v.pt")
    assert first == identity("w.pt", sha256=first["sha256"])
    assert {"missing": str(here / "w.pt"), "skip": []} == identity("w.pt")
    assert first != identity("v.pt", skip=("head.*",))
    with pytest.raises(UsageError, match=r"v.pt has sha256 .* but the spec says 0000"):
        identity("v.pt", sha256=64 * "0")
    torch.save(state_of(network(2)), "v.pt")
    assert first != identity("v.pt")


def test_a_file_that_changes_after_the_plan() -> None:
    """The bytes that are loaded are those that were planned."""
    torch.save(state_of(network(1)), "w.pt")
    weights = split_start("resnet8", {"initialization": {"file": "w.pt"}})[1]
    assert weights is not None
    planned = weights.identity
    torch.save(state_of(network(2)), "w.pt")
    with pytest.raises(StepError, match=r"the weights of w.pt have changed since they were planned"):
        weights.load(network(), planned, SHAPE, 10)


def cached(name: str, state: Tensors, here: Path) -> None:
    """Put weights where a library's download leaves them."""
    if name == "torchvision:resnet18":
        file = here / "TORCH_HOME" / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    else:
        repository = here / "hub" / "models--timm--resnet10t.c3_in1k"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("0" * 40)
        file = repository / "snapshots" / ("0" * 40) / "model.safetensors"
    file.parent.mkdir(parents=True)
    if file.suffix == ".pth":
        torch.save(state, file)
    else:
        file.write_bytes(dump_tensors(state))


LIBRARIES = [("torchvision:resnet18", {"weights": "DEFAULT"}), ("timm:resnet10t", {"pretrained": True})]


@pytest.mark.parametrize(("name", "options"), LIBRARIES)
@pytest.mark.parametrize("classes", [1000, 5])
def test_weights_of_libraries(here: Path, name: str, options: dict[str, Any], classes: int) -> None:
    """They are the library's, except for a classifier of other classes, which keeps the seed's weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        state = state_of(build_model(name, {}, (3, 32, 32), 1000))
    cached(name, state, here)
    structure, weights = split_start(name, {**options, "initialization": "default"})
    assert weights is not None
    target = build_model(name, structure, (3, 32, 32), classes)
    fresh = {key: tensor.clone() for key, tensor in state_of(target).items()}
    notes = weights.load(target, weights.identity, (3, 32, 32), classes)

    assert {"initialization": "default"} == structure
    why = "fc.weight, fc.bias keep the random initialization of the seed: 5 classes, not the 1,000 of the weights"
    assert notes == (() if classes == 1000 else (why,))
    for key, tensor in state_of(target).items():
        assert torch.equal(tensor, (fresh if classes == 5 and key.startswith("fc.") else state)[key]), key


def test_timm_adapts_the_input_channels(here: Path) -> None:
    """Three channels become one by timm's rule, which sums them, with a note."""
    state = state_of(build_model("timm:resnet10t", {}, (3, 32, 32), 1000))
    cached("timm:resnet10t", state, here)
    _, weights = split_start("timm:resnet10t", {"pretrained": True})
    assert weights is not None
    target = build_model("timm:resnet10t", {}, (1, 32, 32), 1000)
    notes = weights.load(target, weights.identity, (1, 32, 32), 1000)

    assert ("timm adapts the weights of 3 input channels to 1",) == notes
    torch.testing.assert_close(state_of(target)["conv1.0.weight"], state["conv1.0.weight"].sum(1, keepdim=True))


@pytest.mark.parametrize(("name", "options"), LIBRARIES)
def test_missing_weights_of_libraries(name: str, options: dict[str, Any]) -> None:
    """The command that downloads them is named, and nothing is downloaded."""
    _, weights = split_start(name, options)
    assert weights is not None
    assert weights.missing

    message, hint = weights.missing
    assert f"of {name} are in no local cache" in message
    assert "`python -c " in hint
    assert name.partition(":")[2] in hint
    assert "missing" in weights.identity


def test_the_download_of_timm_is_complete(here: Path) -> None:
    """Its command has the folder and the tag of the spec; a named file that is missing is no download."""
    _, weights = split_start("timm:resnet10t", {"pretrained": True, "cache_dir": "w", "pretrained_cfg": "c3_in1k"})
    assert weights is not None
    assert weights.missing is not None
    assert "pretrained=True, pretrained_cfg='c3_in1k', cache_dir='w')" in weights.missing[1]

    _, weights = split_start("timm:resnet10t", {"pretrained": True, "pretrained_cfg_overlay": {"file": "w.pt"}})
    assert weights is not None
    assert weights.missing is not None
    assert f"weights file {here / 'w.pt'} of timm:resnet10t does not exist" == weights.missing[0]


def test_weights_with_auxiliary_heads(here: Path) -> None:
    """torchvision's GoogLeNet starts from its weights with their input transform, and without auxiliary heads."""
    name, shape = "torchvision:googlenet", (3, 32, 32)
    whole = build_model(name, {"aux_logits": True, "init_weights": False}, shape, 1000)
    file = here / "TORCH_HOME" / "hub" / "checkpoints" / "googlenet-1378be20.pth"
    file.parent.mkdir(parents=True)
    torch.save(state_of(whole), file)
    structure, weights = split_start(name, {"weights": "DEFAULT", "init_weights": False})
    assert weights is not None
    target = build_model(name, structure, shape, 5)
    weights.load(target, weights.identity, shape, 5)

    assert target.transform_input
    assert torch.equal(state_of(whole)["conv1.conv.weight"], state_of(target)["conv1.conv.weight"])
    assert not any(key.startswith("aux") for key in state_of(target))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("torchvision:resnet18", {"weights": "IMAGENET"}, "torchvision:resnet18 has no weights 'IMAGENET'"),
        ("torchvision:resnet18", {"weights": 3}, "torchvision:resnet18 has no weights 3"),
        ("torchvision:resnet18", {"pretrained": True}, "has no option `pretrained`"),
        ("torchvision:resnet19", {"weights": "DEFAULT"}, "torchvision has no network 'resnet19'"),
        ("timm:resnet10t", {"pretrained": "yes"}, "must be true or false but is 'yes'"),
        ("timm:resnet10t", {"checkpoint_path": "w.pt"}, "loads weights unseen"),
        ("timm:resnet10t", {"pretrained": True, "pretrained_cfg_overlay": "x"}, "overlay` of timm:resnet10t must be a"),
        ("timm:resnet10t", {"pretrained": True, "pretrained_cfg_overlay": {"hf_hub_id": "a b c"}}, "'a b c'"),
        ("timm:resnet10t", {"pretrained": True, "pretrained_cfg_overlay": {"file": 3}}, "3 cannot be found"),
        ("timm:resnet10t.nothing", {"pretrained": True}, "timm"),
        ("timm:resnet10t", {"pretrained": True, "initialization": {"file": "w.pt"}}, "are two starts of one network"),
        ("timm:resnet10t", {"pretrained": True, "initialization": "orthogonal"}, "are two starts of one network"),
    ],
)
def test_starts_that_cannot_be(name: str, options: dict[str, Any], message: str) -> None:
    """Weights that a library does not have, and two starts at once, are mistakes of the spec."""
    with pytest.raises(AutosparseError, match=message) as caught:
        split_start(name, options)

    assert 2 == caught.value.exit_code


def test_weights_of_libraries_are_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later plan needs neither torchvision nor torch to name the file."""
    options = {"weights": "ResNet18_Weights.IMAGENET1K_V1"}
    _, first = split_start("torchvision:resnet18", options)
    monkeypatch.setitem(__import__("sys").modules, "torchvision.models", None)
    _, second = split_start("torchvision:resnet18", options)
    assert first
    assert second

    assert "IMAGENET1K_V1 of torchvision:resnet18" == first.name == second.name
    assert first.path == second.path
