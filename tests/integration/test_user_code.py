"""User code: its freedom, its errors, and its part in keys."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autosparse.errors import UsageError
from autosparse.user_code import absolute, label, load_factory, sources
from tests.conftest import Workspace, call

NET = """\
from torch import nn

def build(input_shape, classes, *, width=4):
    channels, height, size = input_shape
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * size, width), nn.ReLU(), nn.Linear(width, classes))
"""
DATA = """\
import numpy

def load(*, count=60):
    labels = numpy.arange(count) % 3
    images = numpy.zeros((count, 4, 4), "uint8") + (80 * labels)[:, None, None].astype("uint8")
    images[:, 0, 0] = numpy.arange(count)
    return (images, labels), None
"""
SPEC = """\
version: 1
model: "{model}"
dataset: "{dataset}"
budget: 0.5
method: snip
compare: [random]
controls: []
target: {{device: cpu, threads: 1}}
training: {{epochs: 1, batch: 16, crop: 0, flip: false, precision: float32}}
"""


def write(folder: Path, *, net: str = NET, data: str = DATA, model: str = "net.py:build") -> Path:
    """A network, a dataset and a spec that names both."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "net.py").write_text(net)
    (folder / "data.py").write_text(data)
    (folder / "own.yaml").write_text(SPEC.format(model=model, dataset="data.py:load"))
    return folder


@pytest.fixture
def here(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """The workspace as this process's directory; imported modules are forgotten afterwards."""
    monkeypatch.chdir(workspace.folder)
    monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", str(workspace.cache))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("AUTOSPARSE_SPEC", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield workspace
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(workspace.folder)):
            del sys.modules[name]


def keys(capsys: pytest.CaptureFixture[str], spec: str, *arguments: str) -> dict[str, str]:
    """Step -> key of a plan."""
    ended = call(capsys, " ".join(["plan", spec, "--json", *arguments]))
    assert 0 == ended.code, ended.err
    return {step["name"]: step["key"] for step in ended.json["steps"]}


BROKEN_NETS = [
    pytest.param("def build(:\n", "net.py:1:11: `net.py:build` is not Python: invalid syntax", id="syntax"),
    pytest.param(
        "x = 1\nimport nowhere_at_all\n",
        "net.py:2: importing `net.py:build` failed: ModuleNotFoundError: No module",
        id="import",
    ),
    pytest.param("import sys\nsys.exit(0)\n", "net.py:2: importing `net.py:build` failed: SystemExit: 0", id="exit"),
    pytest.param(
        "def biuld(): pass\n",
        "`build` of {folder}/net.py does not exist\nhint: did you mean `biuld`?",
        id="no function",
    ),
    pytest.param("build = 3\n", "`build` of {folder}/net.py is no function\nhint: functions there: none", id="no call"),
    pytest.param(
        "def build(shape): pass\n",
        "`net.py:build` takes (shape) but is called as ((1, 4, 4), 3): too many",
        id="signature",
    ),
    pytest.param(
        "def build(s, c):\n    raise ValueError('what\\nnow')\n",
        "net.py:2: calling `net.py:build` failed: ValueError: what\nhint",
        id="raises",
    ),
    pytest.param(
        "def build(s, c): return 3\n",
        "model `net.py:build` must give a torch.nn.Module but gives a int",
        id="no module",
    ),
    pytest.param(
        "import torch\ndef build(s, c): return torch.nn.LazyLinear(c)\n",
        "is built lazily: weight has no shape",
        id="lazy",
    ),
    pytest.param(
        "import torch\ndef build(s, c): return torch.nn.Flatten()\n",
        "has no prunable weight: it has no parameters",
        id="nothing to prune",
    ),
    pytest.param(
        "import torch\ndef build(s, c): return torch.nn.Conv2d(1, c, 1)\n",
        "gives outputs of shape [1, 3, 4, 4] for one image of 1 x 4 x 4, not [1, 3]",
        id="shape",
    ),
    pytest.param(
        "import torch\ndef build(s, c): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(5, c))\n",
        "net.py: running an image of 1 x 4 x 4 through `net.py:build` failed: RuntimeError: mat1",
        id="layers",
    ),
    pytest.param(
        "import torch\nclass Net(torch.nn.Linear):\n    def forward(self, x):\n        return [super().forward(x)]\n"
        "def build(s, c): return Net(4, c)\n",
        "must give a tensor of logits but gives a list",
        id="a list",
    ),
    pytest.param(
        "import torch\nclass Net(torch.nn.Linear):\n"
        "    def forward(self, x):\n        return super().forward(x.flatten(1))\n"
        "def build(s, c): return Net(5, c)\n",
        "net.py:4: running an image of 1 x 4 x 4 through `net.py:build` failed: RuntimeError: mat1",
        id="forward",
    ),
]


@pytest.mark.parametrize(("net", "message"), BROKEN_NETS)
def test_a_network_that_does_not_work(
    here: Workspace, capsys: pytest.CaptureFixture[str], net: str, message: str
) -> None:
    """Plan and run end with 2, before anything is made, and say where the user's code went wrong."""
    write(here.folder, net=net)
    for command in ("plan", "run"):
        ended = call(capsys, f"{command} own.yaml")

        assert 2 == ended.code
        assert message.format(folder=here.folder) in ended.err
        assert "Traceback" not in ended.err
    assert not (here.cache / "artifacts").exists()


BROKEN_DATA = [
    pytest.param("def load(:\n", "data.py:1:10: `data.py:load` is not Python: invalid syntax", id="syntax"),
    pytest.param(
        "def load():\n    return open('nowhere.npz')\n",
        "data.py:2: calling `data.py:load` failed: FileNotFoundError:",
        id="no file",
    ),
    pytest.param(
        "def load(): return 1, 2, 3, 4\n",
        "must give (train, test), (train, validation, test) or a mapping, not 4",
        id="four",
    ),
    pytest.param(
        "class Set:\n    def __len__(self): return 3\n    def __getitem__(self, at):\n        raise KeyError(at)\n"
        "def load(): return Set(), None\n",
        "data.py:4: reading `data.py:load` failed: KeyError: 0",
        id="items",
    ),
    pytest.param(
        "import numpy\ndef load(): return (numpy.zeros((9, 4, 4)) - 1, numpy.arange(9)), None\n",
        "must lie from 0 to 1 but reach from -1",
        id="normalized",
    ),
]


@pytest.mark.parametrize(("data", "message"), BROKEN_DATA)
def test_data_that_do_not_work(here: Workspace, capsys: pytest.CaptureFixture[str], data: str, message: str) -> None:
    """The same for a dataset."""
    write(here.folder, data=data)
    for command in ("plan", "run"):
        ended = call(capsys, f"{command} own.yaml")

        assert 2 == ended.code
        assert message in ended.err
        assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model=nowhere.py:build", "there is no file {folder}/nowhere.py\nhint: a file is named relative to the spec"),
        ("model=nowhere_at_all.nets:build", "there is no Python module `nowhere_at_all`"),
        ("model=own_pack.nowhere:build", "there is no Python module `own_pack.nowhere`"),
        ("model=sys:exit", "`sys` is a module of Python"),
        ("model.widht=3", "got an unexpected keyword argument 'widht'\nhint: did you mean `width`?"),
        ("model.initialization=kaiming", "model.initialization"),
        ("dataset.count=0", "gives no training images"),
        ("dataset.classes=[0,7]", "dataset {folder}/data.py:load has no class 7"),
    ],
)
def test_what_a_spec_asks_of_own_code(
    here: Workspace, capsys: pytest.CaptureFixture[str], override: str, message: str
) -> None:
    """Names and options that own code does not have."""
    write(here.folder)
    (here.folder / "own_pack").mkdir()
    (here.folder / "own_pack" / "__init__.py").touch()
    ended = call(capsys, f"plan own.yaml --set '{override}'")

    assert 2 == ended.code
    assert message.format(folder=here.folder) in ended.err


def test_debug_shows_all_of_it(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """`--debug` gives the traceback into the user's code, and the exit code that there is without it."""
    write(here.folder, net="def build(s, c):\n    return 1 / 0\n")

    ended = call(capsys, "--debug plan own.yaml")

    assert 2 == ended.code
    assert "return 1 / 0" in ended.err
    assert "ZeroDivisionError" in ended.err


@pytest.mark.parametrize("command", ["validate own.yaml", "render own.yaml", "schema", "list models"])
def test_what_imports_nothing(here: Workspace, capsys: pytest.CaptureFixture[str], command: str) -> None:
    """Commands that only look at specs never run own code: a module that leaves a trace leaves none."""
    trace = f"open({str(here.folder / 'trace')!r}, 'w').close()\nraise SystemExit(9)\n"
    write(here.folder, net=trace + NET, data=trace + DATA)
    ended = call(capsys, command)

    assert 0 == ended.code
    assert not (here.folder / "trace").exists()


def test_plan_and_run_say_what_they_import(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """Each user-defined name is printed once, on stderr, and not with `--quiet`."""
    write(here.folder)

    for name in ("net.py:build", "data.py:load"):
        assert 1 == call(capsys, "plan own.yaml").err.count(f"note: importing your code, {here.folder / name}\n")
    assert "note" not in call(capsys, "plan own.yaml --quiet").err


@pytest.mark.slow
def test_what_own_code_prints_is_no_result(here: Workspace) -> None:
    """`--json` stays one document however much own code prints."""
    loud = NET.replace("    return", "    print('building')\n    return") + "\nprint('importing')\n"
    write(here.folder, net=loud)
    first, second = here.run("run", "own.yaml", "--json"), here.run("plan", "own.yaml", "--json")

    assert (0, 0) == (first.code, second.code)
    assert first.json["results"]
    assert "building" in first.err


@pytest.mark.slow
def test_keys_follow_the_source_and_not_the_place(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """A changed helper is another network; another file next to it, another folder or another name is not."""
    net = "from own_helper_a import linear\n" + NET.replace("nn.Linear(width", "linear(width")
    folder = write(here.folder / "one", net=net)
    (folder / "own_helper_a.py").write_text("import own_helper_b\nfrom torch.nn import Linear as linear\n")
    (folder / "own_helper_b.py").write_text("")
    before = keys(capsys, "one/own.yaml")

    (folder / "unrelated.py").write_text("import nowhere_at_all\n")
    (folder / "notes.txt").write_text("nothing")
    assert before == keys(capsys, "one/own.yaml")
    for name in ("own_helper_a", "own_helper_b"):
        del sys.modules[name]
    folder.rename(here.folder / "two")
    (here.folder / "two" / "own.yaml").rename(here.folder / "two" / "other.yaml")
    assert before == keys(capsys, "two/other.yaml")
    assert str(here.folder) not in json.dumps(list(before))

    (here.folder / "two" / "own_helper_b.py").write_text("changed = 1")
    after = keys(capsys, "two/other.yaml")
    assert {name for name in before if before[name] == after[name]} == {"data/data.py:load"}


def test_helpers_of_the_same_name_are_not_mixed_up(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """If two folders have a helper of one name, Python would import the first for both: an error says so."""
    for folder in ("one", "two"):
        write(here.folder / folder, net="import own_twin\n" + NET, data="import own_twin\n" + DATA)
        (here.folder / folder / "own_twin.py").write_text("")
    ended = call(capsys, "plan one/own.yaml --set model=two/net.py:build")

    assert 2 == ended.code
    assert "under that name already\nhint: give one of them another name" in ended.err


@pytest.mark.parametrize("name", ["my net.py", "netz ü.b.py", "queue.py"])
def test_files_of_any_name(here: Workspace, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """A file may be called as no module can be."""
    write(here.folder)
    (here.folder / name).write_text(NET)

    assert f"init/{name}:build/seed0" in keys(capsys, "own.yaml", f"'--set=model={name}:build'")


def test_files_called_like_modules_of_python(here: Workspace) -> None:
    """A file that is called like a standard module takes no one's place: whoever imports that gets Python's."""
    write(here.folder / "nets")
    lines = "import random, cProfile\nassert random.random() and cProfile.Profile\n"
    (here.folder / "nets" / "random.py").write_text(lines + NET)
    (here.folder / "nets" / "cProfile.py").write_text("raise OSError\n")
    ended = here.run("plan", "nets/own.yaml", "--set", "model=nets/random.py:build", "--json")

    assert 0 == ended.code, ended.err
    assert "init/random.py:build/seed0" in [step["name"] for step in ended.json["steps"]]


def test_a_package_in_the_current_directory(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """`package.module:factory`, with relative imports; what its packages run is part of the key."""
    write(here.folder, model="own_nets.deep.nets:build")
    deep = here.folder / "own_nets" / "deep"
    deep.mkdir(parents=True)
    (deep / "nets.py").write_text("from . import parts\nfrom ..top import number\n" + NET)
    for file in (deep / "parts.py", deep.parent / "top.py", deep / "__init__.py", deep.parent / "__init__.py"):
        file.write_text("number = 1\n")
    before = keys(capsys, "own.yaml")

    assert {
        "own_nets/__init__.py", "own_nets/deep/__init__.py", "own_nets/deep/nets.py", "own_nets/deep/parts.py",
        "own_nets/top.py",
    } == set(sources("own_nets.deep.nets:build"))  # fmt: skip
    (deep.parent / "__init__.py").write_text("number = 2\n")
    assert (
        before["init/own_nets.deep.nets:build/seed0"] != keys(capsys, "own.yaml")["init/own_nets.deep.nets:build/seed0"]
    )


def test_a_folder_of_modules_is_a_package(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """As everywhere in Python, `__init__.py` may be left out."""
    write(here.folder, model="own_folder.nets:build")
    (here.folder / "own_folder").mkdir()
    (here.folder / "own_folder" / "nets.py").write_text(NET)

    assert "init/own_folder.nets:build/seed0" in keys(capsys, "own.yaml")
    assert {"own_folder/nets.py"} == set(sources("own_folder.nets:build"))


@pytest.mark.slow
def test_two_networks_of_one_file(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """Factory and options distinguish networks of one file."""
    write(
        here.folder, net=NET + "\ndef other(input_shape, classes):\n    return build(input_shape, classes, width=9)\n"
    )
    init = "init/net.py:build/seed0"
    before = [
        keys(capsys, "own.yaml")[init],
        keys(capsys, "own.yaml", "--set model.width=9")[init],
        keys(capsys, "own.yaml", "--set model.initialization=orthogonal")[init],
        keys(capsys, "own.yaml", "--set model=net.py:other")["init/net.py:other/seed0"],
    ]

    assert 4 == len(set(before))
    assert before[0] == keys(capsys, "own.yaml", "--set model.initialization=default")[init]


def test_names_are_relative_to_what_names_them(
    here: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the spec, to the base that wrote them, or to where the command line is typed; options do not change that."""
    write(here.folder / "base")
    (here.folder / "over").mkdir()
    (here.folder / "over" / "own.yaml").write_text("extends: ../base/own.yaml\nbudget: 0.6\n")
    write(here.folder / "elsewhere", net=NET.replace("width=4", "width=5"))
    monkeypatch.chdir(here.folder / "elsewhere")
    spec = "../over/own.yaml"

    def model(*arguments: str) -> str:
        ended = call(capsys, " ".join(["render", spec, "--json", *arguments]))
        assert 0 == ended.code, ended.err
        return str(ended.json["resolved"]["model"]["name"])

    base = f"{here.folder / 'base' / 'net.py'}:build"
    assert base == model() == model("--set model.width=9") == model("--set model.initialization=orthogonal")
    assert f"{here.folder / 'elsewhere' / 'net.py'}:build" == model("--set model=net.py:build")
    assert f"{here.folder / 'elsewhere' / 'net.py'}:build" == model("--set model.name=net.py:build")
    assert f"{here.folder / 'elsewhere' / 'net.py'}:build" == model("--set 'model={name: net.py:build, width: 3}'")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("net.py:build", "/spec/net.py:build"),
        ("../net.py:build", "/net.py:build"),
        ("/else/net.py:build", "/else/net.py:build"),
        ("package.module:build", "package.module:build"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="drives")
def test_absolute_names(name: str, expected: str) -> None:
    """Files get their whole path, modules keep their name; what people read is the last part."""
    assert expected == absolute(name, Path("/spec"))
    assert label(expected) == expected.rpartition("/")[2]
    assert "net.py:build" == label("C:\\mine\\net.py:build")


@pytest.mark.slow
def test_end_to_end(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """Own network and own images run; again, and in another folder, there is nothing to run; a change is noticed."""
    write(here.folder / "one")
    first = here.run("run", "one/own.yaml", "--json")
    again = call(capsys, "run one/own.yaml --json")
    shutil.move(here.folder / "one", here.folder / "two")
    moved = call(capsys, "run two/own.yaml --json")

    assert (0, 0, 0) == (first.code, again.code, moved.code), first.err
    steps = first.json["steps"]["run"]
    for ended in (again, moved):
        assert "nothing to run" in ended.err
        assert {"run": 0, "reuse": steps, "resume": 0} == ended.json["steps"]
        assert first.json["results"] == ended.json["results"]
    (here.folder / "two" / "net.py").write_text(NET + "changed = 1\n")
    summary = call(capsys, "plan two/own.yaml --json").json["summary"]
    assert (steps - 1, 1) == (summary["run"], summary["reuse"])


def test_a_network_that_draws_its_shapes(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """Every step builds the network again: shapes that depend on the seed are an error with a reason."""
    drawn = "    width = 3 + int(torch.randint(500, ()))\n    return "
    write(here.folder, net="import torch\n" + NET.replace("    return ", drawn, 1))
    ended = call(capsys, "run own.yaml")

    assert 1 == ended.code
    assert "step `init/net.py:build/seed0` failed: model `net.py:build` builds another network at each" in ended.err
    assert "shapes may depend on the factory's options, not on random numbers" in ended.err


def test_a_source_that_changes_while_it_runs(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """A network that is not the planned one any more is not trained under the planned one's key."""
    net = here.folder / "net.py"
    change = f"    if pathlib.Path('now').exists(): pathlib.Path({str(net)!r}).write_text('# changed')\n"
    write(here.folder, data="import pathlib\n" + DATA.replace("    labels =", f"{change}    labels =", 1))
    assert 0 == call(capsys, "plan own.yaml").code
    (here.folder / "now").touch()
    ended = call(capsys, "run own.yaml")

    assert 1 == ended.code
    assert "step `init/net.py:build/seed0` failed: `net.py:build` has changed since it was planned" in ended.err


def test_a_module_is_loaded_once(here: Workspace) -> None:
    """The same file gives the same function; changed, another one."""
    path = here.folder / "net.py"
    path.write_text(NET)
    first = load_factory(f"{path}:build")

    assert first is load_factory(f"{path}:build")
    path.write_text(NET + "\nx = 1\n")
    assert first is not load_factory(f"{path}:build")


def test_what_is_imported_is_found_without_running_it(tmp_path: Path) -> None:
    """Imports of every form are followed, in functions too; what lies elsewhere or cannot be known is not."""
    lines = [
        "import torch, own_a", "from own_b import x", "from own_c.d import y as z", "def f():\n    import own_e.f",
        "try:\n    import own_nowhere\nexcept ImportError: pass", "from own_g import *", "1 / 0",
        "__import__('own_h')",
    ]  # fmt: skip
    (tmp_path / "net.py").write_text("\n".join(lines))
    for name in ("own_c", "own_e"):
        (tmp_path / name).mkdir()
    for file in ("own_a", "own_b", "own_c/__init__", "own_c/d", "own_e/f", "own_g", "own_h"):
        (tmp_path / f"{file}.py").write_text("import net" if file == "own_a" else "")

    assert [
        "net.py", "own_a.py", "own_b.py", "own_c/__init__.py", "own_c/d.py", "own_e/f.py", "own_g.py",
    ] == list(sources(f"{tmp_path / 'net.py'}:f"))  # fmt: skip


def test_a_broken_helper_is_named(tmp_path: Path) -> None:
    """The file that is no Python, not the one that imports it; null characters too."""
    (tmp_path / "net.py").write_text("import own_broken")
    for text in ("def (", "x = '\0'"):
        (tmp_path / "own_broken.py").write_text(text)
        with pytest.raises(UsageError, match=r"own_broken\.py.*: `net\.py:f` is not Python"):
            sources(f"{tmp_path / 'net.py'}:f")


MISSING = {
    "mnist": "root", "fashion_mnist": "root", "cifar10": "root", "cifar100": "root", "svhn": "root",
    "tiny_imagenet": "root", "image_folder": "root", "parquet": "path",
}  # fmt: skip


_QUICK = ("fashion_mnist", "image_folder", "parquet")  # the others are read by the same function


@pytest.mark.parametrize(
    ("name", "option"),
    [pytest.param(*one, marks=() if one[0] in _QUICK else pytest.mark.slow) for one in MISSING.items()],
)
def test_a_missing_set_can_be_planned_but_not_run(
    here: Workspace, capsys: pytest.CaptureFixture[str], name: str, option: str
) -> None:
    """`plan` warns and ends with 0; `run` ends with 5, says what to do, makes nothing and fetches nothing."""
    spec = SPEC.format(model="resnet8", dataset="digits").replace('"digits"', f"{{name: {name}, {option}: nowhere}}")
    (here.folder / "own.yaml").write_text(spec)
    plan, run = call(capsys, "plan own.yaml"), call(capsys, "run own.yaml")

    assert (0, 5) == (plan.code, run.code)
    assert "warning: " in plan.err
    assert "error: " in run.err
    for ended in (plan, run):
        assert str(here.folder / "nowhere") in ended.err
        assert "`hf download " in ended.err or "python -c" in ended.err or "set `dataset.root`" in ended.err
    assert not (here.cache / "artifacts").exists()
    assert not (here.folder / "nowhere").exists()


def test_keys_are_the_same_before_and_after_a_download(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """A published shape gives final keys: user code is traced for it before the data exist."""
    write(here.folder)
    before = keys(capsys, "own.yaml", "--set 'dataset={name: cifar10, root: nowhere, download: true}'")
    (here.folder / "elsewhere").mkdir()
    moved = write(here.folder / "elsewhere")

    assert before == keys(capsys, f"{moved}/own.yaml", "--set 'dataset={name: cifar10, root: nowhere}'")
