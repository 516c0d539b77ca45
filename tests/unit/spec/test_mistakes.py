"""All mistakes of a spec at once: exact positions, one error for one mistake, in the order of the file."""

from __future__ import annotations

import json
import pickle
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from autosparse.cli import main
from autosparse.errors import Problem, SpecError
from autosparse.packaged import shipped
from autosparse.spec import load_spec

GOOD = "model: resnet8\ndataset: digits\n"


@dataclass(frozen=True)
class Case:
    """Wrong spec, and the position and path of every mistake in it."""

    text: str
    errors: list[str]
    files: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


CASES = {
    "unknown keys on every level": Case(
        (
            GOOD + "trainig: {lr: 1}\n"
            "irp:\n"
            "  training: {lrr: 3}\n"
            "  modl: lenet\n"
            "method: {criterion: {name: snip, imges: 5}}\n"
        ),
        ["3:1 trainig", "5:14 irp.training.lrr", "6:3 irp.modl", "7:34 method.criterion.imges"],
    ),
    "several unknown keys of one section": Case(
        GOOD + "training:\n  epoch: 3\n  lrr: 0.1\n  batch: 0\n",
        ["4:3 training.epoch", "5:3 training.lrr", "6:10 training.batch"],
    ),
    "a misspelt required key": Case(
        "modle: resnet8\ndatset: digits\nseeds: [-1]\n", ["1:1 modle", "2:1 datset", "3:9 seeds[0]"]
    ),
    "a misspelt key whose default breaks a rule": Case(
        GOOD + "seeds: [100]\nirp: {seds: [5]}\ntarget: {device: gpu}\n", ["4:7 irp.seds", "5:18 target.device"]
    ),
    "types": Case(
        GOOD + "training:\n  lr: fast\n  batch: 1.5\n  flip: yes\n  drops: 0.5\nsanity: 3\n",
        ["4:7 training.lr", "5:10 training.batch", "6:9 training.flip", "7:10 training.drops", "8:9 sanity"],
    ),
    "ranges": Case(
        (GOOD + "training: {lr: 0, momentum: 1.0, epochs: -1}\nirp: {per_round: 1, rounds: 0}\nversion: 2\n"),
        [
            "3:16 training.lr",
            "3:29 training.momentum",
            "3:42 training.epochs",
            "4:18 irp.per_round",
            "4:29 irp.rounds",
            "5:10 version",
        ],
    ),
    "names of every registry": Case(
        (
            "model: resnet9\n"
            "dataset: digit\n"
            "method:\n"
            "  criterion: snp\n"
            "  allocation: globl\n"
            "  selection: topp\n"
            "  schedule: linar\n"
            "  repair: recnnect\n"
            "scorer: mpl\n"
            "target: {backend: slurm}\n"
            "emit: [onx]\n"
            "track: [mlfow]\n"
            "controls: [shuffl]\n"
        ),
        [
            "1:8 model",
            "2:10 dataset",
            "4:14 method.criterion",
            "5:15 method.allocation",
            "6:14 method.selection",
            "7:13 method.schedule",
            "8:11 method.repair",
            "9:9 scorer",
            "10:19 target.backend",
            "11:8 emit[0]",
            "12:9 track[0]",
            "13:12 controls[0]",
        ],
    ),
    "presets and checks": Case(
        (
            GOOD + "method: snipp\n"
            "compare: [snip, synflo, dense, erkk]\n"
            "sanity: {checks: [quotas, shuffl], methods: [best]}\n"
        ),
        ["3:9 method", "4:17 compare[1]", "4:32 compare[3]", "5:19 sanity.checks[0]", "5:27 sanity.checks[1]"],
    ),
    "options of named things": Case(
        (
            "model: {name: resnet8, widht: 8, width: x}\n"
            "dataset: {name: cifar10, validation: -1}\n"
            "scorer: {name: mlp, featurs: 3}\n"
            "emit: [{name: onnx, opst: 3}, compact, {name: compact, values: float3}]\n"
        ),
        [
            "1:24 model.widht",
            "1:41 model.width",
            "2:38 dataset.validation",
            "3:21 scorer.featurs",
            "4:21 emit[0].opst",
            "4:64 emit[2].values",
        ],
    ),
    "options of names that are not known": Case(
        ("model: {name: resnet9, widht: 8}\ndataset: digits\nscorer: {name: mpl, a: 1}\nseeds: x\n"),
        ["1:15 model.name", "3:16 scorer.name", "4:8 seeds"],
    ),
    "rules beside wrong sections": Case(
        (
            GOOD + "training: {lrr: 1}\n"
            "seeds: [0, 7]\n"
            "irp: {seeds: [100, 7], rounds: some}\n"
            "tuning: {split: networks, options: [batch, ridge, wide]}\n"
        ),
        [
            "3:12 training.lrr",
            "5:14 irp.seeds",
            "5:32 irp.rounds",
            "6:17 tuning.split",
            "6:37 tuning.options[0]",
            "6:51 tuning.options[2]",
        ],
    ),
    "rules of two sections inside one": Case(
        (
            GOOD + "irp: {model: lenet, models: [resnet8], epochs: 3, training: {epochs: 4, lr: 0}}\n"
            "method: {criterion: snip, selection: tuned, name: erk}\n"
        ),
        ["3:29 irp.models", "3:48 irp.epochs", "3:77 irp.training.lr", "4:9 method", "4:38 method.selection"],
    ),
    "rules that read a wrong value are skipped": Case(
        (GOOD + "seeds: [100, x]\nirp: {rounds: 1, per_round: 0.000001x}\ntuning: {options: [ridge], trials: many}\n"),
        ["3:14 seeds[1]", "4:29 irp.per_round", "5:36 tuning.trials"],
    ),
    "rules of sanity": Case(
        (
            GOOD + "budget: [0.5, 0.9]\n"
            "seeds: [0]\n"
            "sanity: {methods: [lerned, best], budget: 0.7, seeds: 2}\n"
            "compare: [dense]\n"
        ),
        ["5:20 sanity.methods[0]", "5:28 sanity.methods[1]", "5:43 sanity.budget", "5:55 sanity.seeds"],
    ),
    "budgets": Case(
        GOOD + "budget:\n- 99\n- 1.0\n- {mac: 5M}\n- {macs: 5m}\n- many\n",
        ["4:3 budget[0]", "5:3 budget[1]", "6:3 budget[2]", "7:10 budget[3].macs", "8:3 budget[4]"],
    ),
    "duplicates in lists": Case(
        (GOOD + "budget: [0.9, 90%, 10x]\nseeds: [0, 0]\nemit: [compact, onnx, compact]\nirp: {seeds: [7, 8, 7]}\n"),
        ["3:15 budget[1]", "3:20 budget[2]", "4:12 seeds[1]", "5:23 emit[2]", "6:21 irp.seeds[2]"],
    ),
    "keys written twice": Case(
        (GOOD + "training: {lr: 0.1, lr: 0.2}\nmodel: resnet8\ntraining:\n  momentum: 3\n  epochs: 2\n  epochs: -2\n"),
        ["3:21", "4:1", "5:1", "6:13 training.momentum", "8:3", "8:11 training.epochs"],
    ),
    "keys written twice in lists": Case(
        GOOD + "compare: [{criterion: snip, criterion: snpi}]\nbudget: [{macs: 5M, macs: 6m}]\nseeds: [-1]\n",
        ["3:29", "3:40 compare[0].criterion", "4:21", "4:27 budget[0].macs", "5:9 seeds[0]"],
    ),
    "a study": Case(
        (
            GOOD + "study:\n"
            "  training.lr: [0.1, 0, fast]\n"
            "  trainng.epochs: [1, 2, 3]\n"
            "  irp.rounds: 4\n"
            "  model: [{name: resnet8, widht: 3}]\n"
            "  seeds.x: [1]\n"
        ),
        [
            "4:22 training.lr",
            "4:25 training.lr",
            "5:3 trainng",
            "6:15 study.irp.rounds",
            "7:27 model.widht",
            "8:13 seeds",
        ],
    ),
    "anchors, aliases, merges": Case(
        GOOD + "training: &a {lr: 0.1}\nirp:\n  training: *a\n  <<: {rounds: 0}\n  per_round: 2\n",
        ["3:11", "5:13", "6:3", "7:14 irp.per_round"],
    ),
    "a merge that may hold what is missing": Case(
        "<<: *base\nseeds: [100]\nirp: {<<: *irp, rounds: 0}\n", ["1:1", "3:7", "3:25 irp.rounds"]
    ),
    "tags": Case(
        ("model: !!str resnet8\ndataset: !mine {name: digit}\ntraining: {lr: !!float 1, batch: x}\n"),
        ["1:8", "2:10", "2:23 dataset.name", "3:16", "3:34 training.batch"],
    ),
    "keys that are no words": Case(
        GOOD + "? [a]\n: 3\n? {b: *c}\n: {d: 4}\nseeds: [0.5]\n", ["3:3", "5:3", "7:9 seeds[0]"]
    ),
    "numbers that are not finite": Case(
        (
            GOOD + "training: {lr: .nan, momentum: .inf, batch: 1e999}\n"
            "budget: [0.5, .inf, 2]\n"
            "seeds: [99999999999999999999]\n"
        ),
        ["3:16", "3:32", "3:45", "4:15", "4:21 budget[2]", "5:9 seeds[0]"],
    ),
    "YAML 1.1": Case(
        (GOOD + "training: {flip: on, epochs: 1_000, lr: 2001-01-01}\ntarget: {time: 12:30:45}\nsanity: yes\n"),
        ["3:18 training.flip", "3:30 training.epochs", "3:41 training.lr", "4:16 target.time", "5:9 sanity"],
    ),
    "letters of any alphabet": Case(
        "# größe – 日本語\nmodel: résnet8\ndataset: digits\nметод: snip\ncompare: [日本, 😀]\n",
        ["2:8 model", "4:1 метод", "5:11 compare[0]", "5:15 compare[1]"],
    ),
    "an empty file": Case("", ["1:1 model", "1:1 dataset"]),
    "comments alone": Case("# nothing\n\n", ["1:1 model", "1:1 dataset"]),
    "a list": Case("- model: resnet8\n- dataset: digits\n", ["1:1"]),
    "a parse error after other mistakes": Case(
        "model: resnet8\nmodel: &a resnet8\nseeds: [0, *b]\ntraining: {lr: 0\n", ["2:1", "2:8", "3:12", "5:1"]
    ),
    "tabs": Case(GOOD + "training:\n\tlr: 0\n", ["4:1"]),
    "two documents": Case("model: 3\nmodel: 4\n---\nmodel: 5\n", ["2:1", "3:1"]),
    "a base with mistakes": Case(
        "extends: base.yaml\nseeds: [-1]\nirp: {rounds: x, rounds: 3}\n",
        [
            "2:9 seeds[0]",
            "3:15 irp.rounds",
            "3:18",
            "base.yaml:5:9 budget",
            "base.yaml:6:12 training.lrr",
            "base.yaml:6:20",
        ],
        files={"base.yaml": "model: resnet8\ndataset: digits\n# one\n\nbudget: 7\ntraining: {lrr: 1, lrr: 2}\n"},
    ),
    "bases of bases": Case(
        "extends: a.yaml\nseeds: x\n",
        ["2:8 seeds", "a.yaml:2:9 method", "b.yaml:1:10", "b.yaml:2:9 budget"],
        files={"a.yaml": "extends: b.yaml\nmethod: snp\nseeds: y\n", "b.yaml": "extends: a.yaml\nbudget: 7\n"},
    ),
    "a base that cannot be parsed": Case(
        "extends: base.yaml\nirp: {rounds: 0}\nmethod: {allocation: erkk}\n",
        ["2:15 irp.rounds", "3:22 method.allocation", "base.yaml:3:1"],
        files={"base.yaml": "model: resnet8\ndataset: [\n"},
    ),
    "a base that is not there": Case(
        "extends: nope.yaml\nirp: {rounds: 0, model: {width: 3}}\nseeds: [100]\n", ["1:10", "2:15 irp.rounds"]
    ),
    "options of the command": Case(
        GOOD + "seeds: [-1]\n",
        [
            "3:9 seeds[0]",
            "--set training.lrr=1 training.lrr",
            "--set x",
            "--set training.lr=.inf",
            "--set model.width=a model.width",
            "--budget 3 budget[0]",
            "--budget many budget[2]",
        ],
        options={
            "overrides": ["training.lrr=1", "x", "training.lr=.inf", "model.width=a"],
            "budget": ["3", "0.5", "many"],
        },
    ),
    "duplicates next to other mistakes": Case(
        (
            GOOD + "emit: [onnx, onnx, foo, {name: onnx, opst: 3}]\n"
            "irp: {models: [lenet, lenet, foo, {name: resnet8, width: 0}], seeds: [7, a, 7]}\n"
            "budget: [0.9, 0.9, 7, 90%]\n"
            "seeds: [0, 0, -1, .nan]\n"
            "sanity: {methods: [learned, learned, zzz], checks: [shuffle, x, shuffle]}\n"
            "controls: [shuffle, x, shuffle]\n"
            "track: [mlflow, foo, mlflow]\n"
            "tuning: {selections: [top, foo, top]}\n"
        ),
        [
            "3:14 emit[1]",
            "3:20 emit[2]",
            "3:38 emit[3].opst",
            "4:23 irp.models[1]",
            "4:30 irp.models[2]",
            "4:58 irp.models[3].width",
            "4:74 irp.seeds[1]",
            "4:77 irp.seeds[2]",
            "5:15 budget[1]",
            "5:20 budget[2]",
            "5:23 budget[3]",
            "6:12 seeds[1]",
            "6:15 seeds[2]",
            "6:19",
            "7:29 sanity.methods[1]",
            "7:38 sanity.methods[2]",
            "7:62 sanity.checks[1]",
            "7:65 sanity.checks[2]",
            "8:21 controls[1]",
            "8:24 controls[2]",
            "9:17 track[1]",
            "9:22 track[2]",
            "10:28 tuning.selections[1]",
            "10:33 tuning.selections[2]",
        ],
    ),
    "unknown keys with rejected values": Case(
        GOOD + "lrr: .nan\ntrainig: *a\ntraining: {epcohs: .inf}\n",
        [
            "3:1 lrr",
            "3:6",
            "4:1 trainig",
            "4:10",
            "5:12 training.epcohs",
            "5:20",
            "--set x={a: .nan}",
            "--set x={a: .nan} x",
        ],
        options={"overrides": ["x={a: .nan}"]},
    ),
    "mistakes inside one option": Case(
        GOOD,
        [
            "--set training={lr: -1, epochs: .nan}",
            "--set training={lr: -1, epochs: .nan} training.lr",
            "--set target={threads: 1, threads: 0, time: x}",
            "--set target={threads: 1, threads: 0, time: x} target.threads",
            "--set target={threads: 1, threads: 0, time: x} target.time",
            "--budget {macs: 1, macs: x}",
            "--budget {macs: 1, macs: x} budget[0].macs",
        ],
        options={
            "overrides": ["training={lr: -1, epochs: .nan}", "target={threads: 1, threads: 0, time: x}"],
            "budget": ["{macs: 1, macs: x}"],
        },
    ),
    "an unknown preset and other mistakes": Case(
        GOOD + "method: {preset: foo, criterion: bar, selection: zz, x: 1}\n"
        "compare: [{preset: foo, schedule: zz}, {preset: .nan, repair: zz}]\n",
        [
            "3:18 method.preset",
            "3:34 method.criterion",
            "3:50 method.selection",
            "3:54 method.x",
            "4:20 compare[0].preset",
            "4:35 compare[0].schedule",
            "4:49",
            "4:63 compare[1].repair",
        ],
    ),
    "an unknown preset with a choice of the command": Case(
        GOOD + "method: foo\n",
        ["3:9 method.preset", "--set method.schedule=zz method.schedule"],
        options={"overrides": ["method.selection=top", "method.schedule=zz"]},
    ),
    "three methods of one name": Case(
        GOOD + "compare: [{name: a, criterion: snip}, {name: a, criterion: grasp}, {name: a, criterion: synflow}]\n",
        ["3:39 compare[1]", "3:68 compare[2]"],
    ),
    "a section study written twice": Case(
        GOOD + "study: {training.lr: [0.1]}\nstudy: {training.lr: [-1], foo: [1]}\n",
        ["4:1", "4:23 training.lr", "4:28 foo"],
    ),
    "values of a study written twice": Case(
        GOOD + "study: {training.lr: [0.1], training.lr: [-1, x]}\n",
        ["3:29", "3:43 training.lr", "3:47 training.lr"],
    ),
    "two bases": Case(GOOD + "extends: a\nextends: b\n", ["3:10", "4:1", "4:10"]),
    "a study of a key that is no mapping": Case(
        GOOD + "training: {schedule: one_cycle}\nstudy: {training.schedule.x: [1], store.x: [1]}\n",
        ["4:9", "4:45 store"],
    ),
    "a study with many values": Case(GOOD + f"study: {{seeds: {[*range(501)]}}}\n", ["3:8"]),
    "an option through a value of an option": Case(
        GOOD,
        ["--set training.lr=x training.lr", "--set training.lr.x=1"],
        options={"overrides": ["training.lr=x", "training.lr.x=1"]},
    ),
    "a path through a value": Case(
        GOOD + "training: {lr: 0}\n",
        ["3:16 training.lr", "--set seeds.a.b=1", "--set training.epochs.x=1 training.epochs"],
        options={"overrides": ["seeds=[0]", "seeds.a.b=1", "training.epochs.x=1"]},
    ),
    "a study of the command": Case(
        GOOD + "seeds: [-1]\n",
        ["3:9 seeds[0]", "--set study={irp.rounds: [0, 4]} irp.rounds"],
        options={"overrides": ["study={irp.rounds: [0, 4]}"]},
    ),
    "nulls": Case(
        "model:\ndataset: ~\ntraining:\nseeds:\nbudget: []\n",
        ["1:7 model", "2:10 dataset", "3:10 training", "4:7 seeds", "5:9 budget"],
    ),
    "mappings and lists for each other": Case(
        ("model: [resnet8]\ndataset: {digits: 1}\ntraining: []\ncompare: {snip: 1}\nirp: 3\nmethod: []\n"),
        ["1:8 model", "2:10 dataset", "3:11 training", "4:17 compare.snip", "5:6 irp", "6:9 method"],
    ),
    "huge and deep": Case(
        (
            GOOD + "seeds: 1000000000000000000000000000000\n"
            "irp: {rounds: 10000000000000000000000000000000000000000}\n"
            "training: {lr: [[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]}\n"
        ),
        ["3:8 seeds", "4:15 irp.rounds", "5:16 training.lr"],
    ),
}
"""Position in spec.yaml, another file or an option, and path; mistakes of the reader have no path."""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", str(tmp_path / "cache"))


def errors_of(path: str, **options: Any) -> tuple[Problem, ...]:
    """Return the mistakes that loading a spec reports."""
    with pytest.raises(SpecError) as caught:
        load_spec(Path(path), **options)
    return caught.value.errors


def position(error: Problem) -> str:
    """Return position and path as the table writes them."""
    where = f"{error.file}:{error.line}:{error.column}" if error.line else error.file
    return f"{where} {error.path}".strip().removeprefix("spec.yaml:")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_mistake_is_one_error_at_its_position(case: Case) -> None:
    """A spec with several mistakes lists each once: those of the file, of its bases, of options."""
    for name, text in {"spec.yaml": case.text, **case.files}.items():
        Path(name).write_text(text, encoding="utf-8")

    assert case.errors == [position(error) for error in errors_of("spec.yaml", **case.options)]


Leaf = tuple[tuple[Any, ...], yaml.Node, yaml.Node | None]
"""Path, value and, in a mapping, key of a scalar."""


def leaves(
    node: yaml.Node, path: tuple[Any, ...] = ()
) -> Iterator[tuple[tuple[Any, ...], yaml.Node, yaml.Node | None]]:
    """Yield path, value and key of every scalar in a YAML tree."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(value, yaml.ScalarNode):
                yield (*path, key.value), value, key
            else:
                yield from leaves(value, (*path, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            if isinstance(item, yaml.ScalarNode):
                yield (*path, index), item, None
            else:
                yield from leaves(item, (*path, index))


NAMING = ("name", "preset", "pretrained")
"""Keys whose value decides which other keys are valid."""


def with_mistakes(text: str, number: int, chance: random.Random) -> tuple[str, list[tuple[int, int]]]:
    """Return a text with at most this number of independent mistakes, and their lines and columns."""
    root = yaml.compose(text)
    assert root is not None
    result = [leaf for leaf in leaves(root) if "parameters" not in leaf[0]]
    chosen: dict[tuple[Any, ...], Leaf] = {}
    for leaf in chance.sample(result, len(result)):
        scope = leaf[0][:-1] if leaf[0][-1] in NAMING else leaf[0]
        related = any(scope[: len(other)] == other or other[: len(scope)] == scope for other in chosen)
        if not related and len(chosen) < number:
            chosen[scope] = leaf
    edits = sorted(edit_of(text, leaf, chance) for leaf in chosen.values())
    written, errors, done = "", [], 0
    for begin, end, new, offset in edits:
        written += text[done:begin]
        before = (written + new)[: len(written) + offset]
        errors.append((before.count("\n") + 1, len(before) - before.rfind("\n")))
        written, done = written + new, end
    return written + text[done:], errors


def edit_of(text: str, leaf: Leaf, chance: random.Random) -> tuple[int, int, str, int]:
    """Return an edit that makes a value or its key wrong: begin, end, new text, and the error's offset from begin."""
    path, value, key = leaf
    kinds = ["type", "nan", "tag"]
    if key is not None and path[-1] not in NAMING and path[0] != "budget":  # a currency names no field
        kinds += ["key", "twice"] if key.start_mark.column == 0 else ["key"]
    kind = chance.choice(kinds)
    if key is not None and kind == "key":
        begin, end = key.end_mark.index, key.end_mark.index
        return begin, end, "_zzz", key.start_mark.index - begin
    if key is not None and kind == "twice":
        line = text[key.start_mark.index :].partition("\n")[0]
        after = key.start_mark.index + len(line)
        return after, after, f"\n{line}", 1
    other = "[]" if path[0] in ("method", "compare") else "{zzz: 1}"  # a type that the value may not have
    wrong = {"type": other, "nan": ".nan", "tag": "!zzz 1"}[kind]
    return value.start_mark.index, value.end_mark.index, wrong, 0


PLAIN = [
    pytest.param(path, id=f"{folder}-{name}")
    for folder in ("specs", "templates")
    for name, path in shipped(folder).items()
    if not {"extends:", ".py:"} & {*path.read_text(encoding="utf-8").replace(".py:", " .py: ").split()}
]
"""Bundled specs without a base and without user code, whose options are not checked."""


@pytest.mark.parametrize("path", PLAIN)
def test_independent_mistakes_are_all_reported(path: Path) -> None:
    """Any number of independent mistakes in a bundled spec gives as many errors, each at its line and column."""
    original, chance = path.read_text(encoding="utf-8"), random.Random(path.name)
    for _ in range(12):
        text, expected = with_mistakes(original, chance.randint(1, 7), chance)
        Path("spec.yaml").write_text(text, encoding="utf-8")

        assert expected == [(error.line, error.column) for error in errors_of("spec.yaml")], text


def test_a_long_list_of_errors_is_cut_and_quick() -> None:
    """A spec with 20,000 mistakes shows the first 100 and the number of the others, in seconds."""
    Path("spec.yaml").write_text(f"{GOOD}seeds: [{', '.join(['x'] * 20_000)}]\n")
    begin = time.monotonic()

    with pytest.raises(SpecError) as caught:
        load_spec(Path("spec.yaml"))

    assert 20_000 == len(caught.value.errors)
    assert 101 == len(caught.value.problems)
    assert "and 19900 more" == str(caught.value).splitlines()[-1]
    assert caught.value.summary.startswith("20000 errors in ")
    assert time.monotonic() - begin < 20


def test_a_spec_error_shows_all_its_errors() -> None:
    """For library users `str()` lists every mistake with its hint; it survives pickling."""
    Path("spec.yaml").write_text(GOOD + "trainig: {}\nseeds: [-1]\n", encoding="utf-8")

    with pytest.raises(SpecError) as caught:
        load_spec(Path("spec.yaml"))
    error = pickle.loads(pickle.dumps(caught.value))

    assert (
        "2 errors in spec.yaml\n"
        "spec.yaml:3:1: unknown key `trainig`\n"
        "  hint: did you mean `training`?\n"
        "spec.yaml:4:9: `seeds[0]` must be at least 0 but is -1"
    ) == str(error)
    assert caught.value.errors == error.errors
    assert ("spec.yaml:3:1: unknown key `trainig`", "did you mean `training`?") == (error.message, error.hint)


def ended(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[Any, str, str]:
    """Return exit code, stdout and stderr of a command."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main([*arguments])
    return (caught.value.code, *capsys.readouterr())


@pytest.mark.parametrize("command", ["validate", "plan", "run", "render", "study", "bench"])
def test_every_command_lists_all_errors(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Commands that take a spec print the same list on stderr and its number, and exit with 2."""
    Path("spec.yaml").write_text(GOOD + "trainig: {}\nseeds: [-1]\n", encoding="utf-8")

    code, out, err = ended(capsys, command, "spec.yaml", "--set", "training.lr=0")

    assert (2, "") == (code, out)
    assert (
        "error: spec.yaml:3:1: unknown key `trainig`\nhint: did you mean `training`?\n"
        "error: spec.yaml:4:9: `seeds[0]` must be at least 0 but is -1\n"
        "error: --set training.lr=0: `training.lr` must be above 0 but is 0\n"
        "3 errors in spec.yaml and the options\n"
    ) == err


def test_validate_goes_on_with_the_next_spec(capsys: pytest.CaptureFixture[str]) -> None:
    """One wrong or missing file does not hide the mistakes of the others."""
    Path("one.yaml").write_text(GOOD + "seeds: [-1]\n", encoding="utf-8")
    Path("two.yaml").write_text(GOOD, encoding="utf-8")
    Path("three.yaml").write_text("model: resnet9\ndataset: digits\n", encoding="utf-8")

    code, out, err = ended(capsys, "validate", "one.yaml", "nope.yaml", "two.yaml", ".", "three.yaml")

    assert (2, "two.yaml is valid\n") == (code, out)
    assert ["one.yaml:3:9:", "nope.yaml:", ".:", "three.yaml:1:8:"] == [
        line.split()[1] for line in err.splitlines() if line.startswith("error: ")
    ]
    assert err.endswith("4 errors in one.yaml, nope.yaml, . and three.yaml\n")


def test_validate_reports_a_wrong_option_once(capsys: pytest.CaptureFixture[str]) -> None:
    """One option's mistake is one error, whatever the number of specs."""
    for name in ("one.yaml", "two.yaml"):
        Path(name).write_text(GOOD, encoding="utf-8")

    code, out, err = ended(capsys, "validate", "one.yaml", "two.yaml", "--set", "training.lr=-1", "--json")

    assert (2, "") == (code, err)
    assert ["--set training.lr=-1"] == [error["file"] for error in json.loads(out)["errors"]]


def test_validate_prints_json_without_a_spec(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An `AUTOSPARSE_SPEC` that does not exist is an error in the JSON."""
    monkeypatch.setenv("AUTOSPARSE_SPEC", "nope.yaml")

    code, out, err = ended(capsys, "validate", "--json")

    assert (2, "") == (code, err)
    assert ["`AUTOSPARSE_SPEC` names nope.yaml, which is not a file"] == [
        error["message"] for error in json.loads(out)["errors"]
    ]


def test_validate_prints_errors_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Under `--json` each error has its file, line, column, path, message and hint; absent ones are null."""
    Path("spec.yaml").write_text(GOOD + "trainig: {}\n", encoding="utf-8")

    code, out, err = ended(capsys, "validate", "spec.yaml", "nope.yaml", "--set", "seeds=[-1]", "--json")

    assert (2, "") == (code, err)
    assert [
        {
            "file": "spec.yaml",
            "line": 3,
            "column": 1,
            "path": "trainig",
            "message": "unknown key `trainig`",
            "hint": "did you mean `training`?",
        },
        {
            "file": "--set seeds=[-1]",
            "line": None,
            "column": None,
            "path": "seeds[0]",
            "message": "`seeds[0]` must be at least 0 but is -1",
            "hint": None,
        },
        {
            "file": "nope.yaml",
            "line": None,
            "column": None,
            "path": None,
            "message": "it does not exist",
            "hint": "run `autosparse init` to write a spec",
        },
    ] == json.loads(out)["errors"]
