"""Broken specs: every problem is reported at its position, with value, rule and remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autosparse.core.presets import PRESETS
from autosparse.errors import AutosparseError, SpecError, UsageError
from autosparse.spec import load_spec

GOOD = "model: resnet8\ndataset: digits\n"
METHODS = [*PRESETS]


# What follows the two good lines, its place, a piece of the message, the hint (None: no hint).
BROKEN = [
    # unknown keys
    pytest.param("modle: resnet8\n", "3:1", "unknown key `modle`", "did you mean `model`?", id="key"),
    pytest.param("trainig: {lr: 1}\n", "3:1", "unknown key `trainig`", "did you mean `training`?", id="section"),
    pytest.param(
        "training:\n  lr: 0.1\n  epoch: 3\n",
        "5:3",
        "unknown key `epoch` in `training`",
        "did you mean `epochs`?",
        id="nested key",
    ),
    pytest.param(
        "target: {memory: 600}\n",
        "3:18",
        "must be auto, or an amount of memory with its unit, but is 600",
        "did you mean `600MiB`?",
        id="memory without unit",
    ),
    pytest.param(
        "irp: {rounds: 4, per_round: 0.25, per_round_of: all}\n",
        "3:29",
        "removes 0.25 of all weights in each of 4 rounds: none would be left",
        "such as `per_round: 0.24`",
        id="linear rounds that leave nothing",
    ),
    pytest.param("target: {memory: 0GiB}\n", "3:18", "but is '0GiB'", "such as `8GiB`", id="no memory"),
    pytest.param(
        "target: {time: 90}\n", "3:16", "a duration with its unit", "did you mean `90s`?", id="time without unit"
    ),
    pytest.param("target: {time: soon}\n", "3:16", "must be unlimited, or", "such as `2h`", id="time in words"),
    pytest.param("target: {time: 2h5}\n", "3:16", "but is '2h5'", "such as `2h`", id="time half with unit"),
    pytest.param("irp: {rounds: some}\n", "3:15", "must be a whole number", None, id="rounds in words"),
    pytest.param(
        "irp: {epochs: 3, training: {epochs: 4}}\n", "3:15", "`irp.training.epochs` is 4", "write one", id="two epochs"
    ),
    pytest.param(
        "target: {bandwidth: 8}\n",
        "3:10",
        "unknown key `bandwidth` in `target`",
        "known here: device, devices, threads, workers, memory, time, backend",
        id="key like no other",
    ),
    pytest.param(
        "irp: {training: {learning_rate: 1}}\n",
        "3:18",
        "unknown key `learning_rate` in `irp.training`",
        ...,
        id="key two sections down",
    ),
    pytest.param(
        "method: {criterion: {name: snip, imges: 5}}\n",
        "3:34",
        "unknown key `imges` in `method.criterion`",
        "did you mean `images`?",
        id="option of a criterion",
    ),
    pytest.param(
        "irp: {model: {name: resnet8, widht: 8}}\n",
        "3:30",
        "unknown key `widht` in `irp.model`",
        "did you mean `width`?",
        id="option of a model",
    ),
    # misspelt names
    pytest.param(
        "irp: {model: resnet9}\n", "3:14", "`irp.model` must be a model", "did you mean `resnet8`?", id="model"
    ),
    pytest.param(
        "irp: {dataset: digit}\n", "3:16", "`irp.dataset` must be a dataset", "did you mean `digits`?", id="dataset"
    ),
    pytest.param("method: snipp\n", "3:9", "must be a method but is 'snipp'", "did you mean `snip`?", id="method"),
    pytest.param(
        "method: xyz\n", "3:9", "must be a method but is 'xyz'", f"presets: {', '.join(METHODS)}", id="no such method"
    ),
    pytest.param(
        "method: {criterion: snipp}\n",
        "3:21",
        "`method.criterion` must be a criterion but is 'snipp'",
        "did you mean `snip`?",
        id="criterion",
    ),
    pytest.param(
        "method:\n  criterion: snip\n  allocation: globl\n",
        "5:15",
        "`method.allocation` must be an allocation but is 'globl'",
        "did you mean `global`?",
        id="allocation",
    ),
    pytest.param(
        "method: {criterion: snip, schedule: linar}\n",
        "3:37",
        "`method.schedule` must be a schedule",
        "did you mean `linear`?",
        id="schedule",
    ),
    pytest.param(
        "compare: [snip, snpi]\n",
        "3:17",
        "`compare[1]` must be a method",
        "did you mean `snip`?",
        id="preset in a list",
    ),
    pytest.param(
        "scorer: cifar-v1\n",
        "3:9",
        "`scorer` must be a scorer but is 'cifar-v1', which has been trained",
        "such as `scorer: {pretrained: cifar-v1}`",
        id="a scorer that ships",
    ),
    pytest.param(
        "irp: {per_round: 0.0001}\n",
        "3:6",
        "but scorer `quota` learns from rounds that leave 50 % or less",
        "more rounds, or a larger `per_round`",
        id="rounds that are never enough",
    ),
    pytest.param(
        "method: {criterion: snip, selection: tuned}\n",
        "3:38",
        "`method.selection` is the selection of a scorer",
        "such as `selection: top`",
        id="tuned without a scorer",
    ),
    pytest.param("scorer: mpl\n", "3:9", "`scorer` must be a scorer but is 'mpl'", "did you mean `mlp`?", id="scorer"),
    pytest.param(
        "target: {backend: slurm}\n", "3:19", "must be a backend", "run `autosparse list backends`", id="backend"
    ),
    pytest.param("emit: [onx]\n", "3:8", "`emit[0]` must be a format but is 'onx'", ..., id="format"),
    pytest.param(
        "training: {optimizer: adam}\n",
        "3:23",
        "`training.optimizer` must be 'sgd' or 'adamw'",
        "did you mean `adamw`?",
        id="word",
    ),
    pytest.param(
        "controls: [shuffl]\n", "3:12", "`controls[0]` must be", "did you mean `shuffle`?", id="word in a list"
    ),
    # types
    pytest.param(
        'training: {epochs: "3"}\n',
        "3:20",
        '`training.epochs` must be a number but is "3"',
        "write it without quotes",
        id="quoted number of epochs",
    ),
    pytest.param(
        'training: {lr: "0.1"}\n',
        "3:16",
        '`training.lr` must be a number but is "0.1"',
        "write it without quotes",
        id="quoted number",
    ),
    pytest.param(
        'training: {lr: "1e-3"}\n',
        "3:16",
        '`training.lr` must be a number but is "1e-3"',
        "write it without quotes",
        id="quoted exponent",
    ),
    pytest.param(
        'training: {flip: "true"}\n',
        "3:18",
        '`training.flip` must be true or false but is "true"',
        "write it without quotes",
        id="quoted boolean",
    ),
    pytest.param(
        "training: {batch: 1.5}\n", "3:19", "`training.batch` must be a whole number but is 1.5", None, id="half"
    ),
    pytest.param(
        "training: {batch: 1e1}\n", "3:19", "must be a whole number but is 10.0", "write 10", id="float for int"
    ),
    pytest.param(
        "training: {lr: true}\n", "3:16", "`training.lr` must be a number but is true", None, id="bool for number"
    ),
    pytest.param(
        "training: {flip: 1}\n", "3:18", "`training.flip` must be true or false but is 1", None, id="number for bool"
    ),
    pytest.param("training: {flip: no}\n", "3:18", 'must be true or false but is "no"', None, id="YAML 1.1's boolean"),
    pytest.param("training: {drops: 0.5}\n", "3:19", "`training.drops` must be a list but is 0.5", None, id="no list"),
    pytest.param(
        "training: {drops: [0.1, a]}\n", "3:25", '`training.drops[1]` must be a number but is "a"', None, id="item"
    ),
    pytest.param("compare: snip\n", "3:10", '`compare` must be a list but is "snip"', None, id="text for list"),
    pytest.param(
        "training: []\n", "3:11", "`training` must be a mapping of keys but is []", None, id="list for mapping"
    ),
    pytest.param(
        "training: fast\n", "3:11", '`training` must be a mapping of keys but is "fast"', None, id="text for mapping"
    ),
    pytest.param(
        "training:\n", "3:10", "`training` must be a mapping of keys but is null", None, id="null for mapping"
    ),
    pytest.param("method: 3\n", "3:9", "must be the name of a method", ..., id="number for method"),
    pytest.param("compare: [[snip]]\n", "3:11", "must be the name of a method", ..., id="list in a list"),
    # ranges
    pytest.param("training: {lr: 0}\n", "3:16", "`training.lr` must be above 0", None, id="lr 0"),
    pytest.param("training: {lr: -1}\n", "3:16", "but is -1", None, id="lr below 0"),
    pytest.param("training: {lr: 1e-400}\n", "3:16", "`training.lr` must be above 0", None, id="lr underflows"),
    pytest.param("training: {momentum: 1.0}\n", "3:22", "`training.momentum` must be below 1", None, id="momentum 1"),
    pytest.param("irp: {per_round: 0}\n", "3:18", "`irp.per_round` must be above 0", None, id="per_round 0"),
    pytest.param("irp: {per_round: 1}\n", "3:18", "`irp.per_round` must be below 1", None, id="per_round 1"),
    pytest.param("irp: {rounds: 0}\n", "3:15", "`irp.rounds` must be at least 1 but is 0", None, id="no rounds"),
    pytest.param("tuning: {trials: -1}\n", "3:18", "`tuning.trials` must be at least 0 but is -1", None, id="trials"),
    pytest.param("target: {threads: 0}\n", "3:19", "`target.threads` must be at least 1 but is 0", None, id="threads"),
    pytest.param(
        "target: {device: gpu}\n",
        "3:18",
        "`target.device` must be auto, cpu, cuda, cuda:N or mps but is 'gpu'",
        None,
        id="device",
    ),
    pytest.param("version: 2\n", "3:10", "`version` must be 1 but is 2", None, id="version 2"),
    pytest.param("version: true\n", "3:10", "`version` must be 1 but is true", None, id="version true"),
    pytest.param(
        "method: {criterion: snip, name: a/b}\n",
        "3:33",
        "`method.name` must be up to 60 letters, digits",
        None,
        id="name with a slash",
    ),
    pytest.param(
        "method: {criterion: {name: snip, images: 0}}\n",
        "3:42",
        "`method.criterion.images` must be at least 1 but is 0",
        None,
        id="option out of range",
    ),
    pytest.param(
        "irp: {model: {name: mlp, widths: [3, 0]}}\n",
        "3:38",
        "`irp.model.widths[1]` must be at least 1 but is 0",
        None,
        id="item out of range",
    ),
    pytest.param("training: {epochs: -0.5}\n", "3:20", "must be above 0 but is -0.5", ..., id="less than no epochs"),
    # rules over several sections
    pytest.param(
        "seeds: [0, 7]\nirp: {seeds: [100, 7]}\n", "4:14", "`irp.seeds` must not name 7", ..., id="seeds meet"
    ),
    pytest.param(
        "scorer: {name: mlp, width: 200}\ntuning: {options: [width]}\n",
        "3:28",
        "`scorer.width` is 200, outside the range",
        "tunable width: 8 to 128",
        id="outside the range",
    ),
    pytest.param(
        "method: {preset: synflo, repair: reconnect}\n",
        "3:18",
        "`method.preset` must be a method",
        "did you mean `synflow`?",
        id="preset that is not there",
    ),
    pytest.param(
        "tuning: {split: seeds}\n",
        "3:17",
        "`tuning.split` holds seeds out, but there is one of `irp.seeds`",
        "such as `irp: {seeds: [100, 101]}`",
        id="one seed to hold out",
    ),
    pytest.param(
        "tuning: {pruner: wilcoxon}\n",
        "3:18",
        "`tuning.pruner` wilcoxon needs 5 folds to stop a trial, but has 3",
        "such as `folds: 5`, or `pruner: median`",
        id="too few folds",
    ),
    pytest.param(
        "irp: {seeds: [100, 101]}\ntuning: {pruner: wilcoxon, folds: 9, split: seeds}\n",
        "4:18",
        "`tuning.pruner` wilcoxon needs 5 folds to stop a trial, but has 2",
        "such as `folds: 5`, or `pruner: median`",
        id="too few seeds",
    ),
    pytest.param(
        "irp: {seeds: [100, 200]}\ntuning: {proxy: {epochs: 2}}\n",
        "4:17",
        "`tuning.proxy` begins at seed 200, one of `irp.seeds`: a network it learned from would choose the scorer",
        "such as `proxy: {seed: 201}`",
        id="a proxy that was learned from",
    ),
    pytest.param(
        "seeds: [0, 1, 2]\ntuning: {proxy: {seed: 1}}\n",
        "4:17",
        "`tuning.proxy` begins at seed 1, one of `seeds`: a network it is judged on would choose the scorer",
        "such as `proxy: {seed: 3}`",
        id="a proxy that is compared",
    ),
    pytest.param(
        "tuning: {selections: [top, shuffle]}\n",
        "3:22",
        "`tuning.selections` are compared by a proxy's training, but there is none",
        "such as `proxy: {weight: 0.5}`",
        id="selections without a proxy",
    ),
    pytest.param(
        "method: {criterion: learned}\ntuning: {proxy: {}, selections: [top, shuffle]}\n",
        "4:33",
        "`tuning.selections` are for a method with selection `tuned`, but learned+global+top+one_shot has top",
        "such as `method: learned`",
        id="selections for another method",
    ),
    pytest.param(
        "method: {horizon: 50%}\ntuning: {proxy: {}, selections: [top, shuffle]}\n",
        "4:33",
        "`tuning.selections` choose weights at once, but learned+50pct ends with those that its search learned",
        "such as `method: learned`",
        id="selections for a search",
    ),
    pytest.param(
        "method: {criterion: learned, selection: tuned}\ntuning: {proxy: {}, selections: [top, tuned]}\n",
        "4:33",
        "`tuning.selections` name `tuned`, which is what they are for",
        "such as `[top, random]`",
        id="selection tuned among selections",
    ),
    pytest.param(
        "method: {criterion: learned, selection: tuned}\ntuning: {trials: 1, proxy: {}, selections: [top, shuffle]}\n",
        "4:44",
        "`tuning.selections` are 2, each to be tried once, but `trials` is 1",
        "such as `trials: 6`",
        id="fewer trials than selections",
    ),
    pytest.param(
        "irp: {models: [lenet]}\ntuning: {split: networks}\n",
        "4:17",
        "`tuning.split` holds networks out, but there is one network in `irp`",
        "such as `irp: {models: [resnet8, lenet]}`",
        id="one network to hold out",
    ),
    pytest.param(
        "irp: {model: lenet, models: [resnet8]}\n",
        "3:29",
        "`irp.models` and `model` exclude each other",
        "write all networks into `models`",
        id="model and models",
    ),
    # budgets
    pytest.param("budget: 1.0\n", "3:9", "below 1 but is 1", "0.99 removes 99 % of the weights", id="budget 1.0"),
    pytest.param("budget: -0.1\n", "3:9", "must be at least 0 and below 1 but is -0.1", ..., id="budget -0.1"),
    pytest.param("budget: 99\n", "3:9", "below 1 but is 99", "for 99 % write 0.99", id="budget 99"),
    pytest.param("budget: 100\n", "3:9", "below 1 but is 100", ..., id="budget 100"),
    pytest.param("budget: a\n", "3:9", "`budget` must be a number but is", ..., id="budget a"),
    pytest.param(
        "budget: [0.9, 99.5]\n", "3:15", "`budget[1]` must be at least 0", "for 99.5 % write 0.995", id="budget 99.5"
    ),
    pytest.param(
        "budget: [0.9, 1]\n", "3:15", "`budget[1]` must be at least 0 and below 1 but is 1", ..., id="budget 1"
    ),
    pytest.param("budget: []\n", "3:9", "`budget` must have at least 1 value but is []", None, id="no budget"),
    pytest.param("budget: [0.9, 0.5, 0.90]\n", "3:20", "`budget[2]` repeats 0.9", "name it once", id="budget twice"),
    pytest.param(
        "budget: [0.9, {macs: 5m}]\n", "3:22", "`budget[1].macs` must be", "did you mean `5M`?", id="budget 5m"
    ),
    pytest.param("budget: {mac: 5M}\n", "3:9", "`budget` must be in", "did you mean `macs`?", id="budget in mac"),
    pytest.param("budget: [5M]\n", "3:10", "`budget[0]` must be a number", ..., id="budget of what"),
    pytest.param("budget: [90%, 10x]\n", "3:15", "`budget[1]` repeats 0.9", ..., id="budget twice in words"),
    # seeds
    pytest.param("seeds: [0, 1, 0]\n", "3:15", "`seeds[2]` repeats 0", ..., id="seed twice"),
    pytest.param("irp: {seeds: [7, 7]}\n", "3:18", "`irp.seeds[1]` repeats 7", ..., id="seed of irp twice"),
    pytest.param("seeds: []\n", "3:8", "`seeds` must have at least 1 value but is []", None, id="no seeds"),
    pytest.param(
        "seeds: [100, 101]\n",
        "3:8",
        "`seeds` must not name 100, a seed of `irp.seeds`",
        "such as `irp: {seeds: [102]}`",
        id="seeds that are the default ones of irp",
    ),
    pytest.param(f"training: {{epochs: {'9' * 400}}}\n", "3:20", f"{'9' * 40} is too large", None, id="400 digits"),
    pytest.param(
        "seeds: [100]\nirp: {seeds: [100]}\n",
        "4:14",
        "`irp.seeds` must not name 100, a seed of `seeds`",
        "such as `irp: {seeds: [101]}`",
        id="seeds that are those of irp",
    ),
    pytest.param(
        "method: {preset: learned}\nbudget: 0.9\nirp: {per_round: 0.1, rounds: 2}\n",
        "5:31",
        "`irp.rounds` leaves 81 % of the weights",
        ...,
        id="rounds that teach nothing",
    ),
    pytest.param(
        "irp: {per_round: 0.01, per_round_of: all}\ntuning: {split: seeds}\n",
        "4:17",
        "`tuning.split` ",
        ...,
        id="one seed",
    ),
    pytest.param("seeds: 1e300\n", "3:8", "`seeds` must be a whole number but is 1e+300", None, id="a huge seed"),
    pytest.param("seeds: 1e3\n", "3:8", "`seeds` must be a whole number but is 1000.0", "write 1000", id="1e3"),
    pytest.param("training: !!map {lr: 1}\n", "3:11", "tags (`!!map`) are not allowed", ..., id="a standard tag"),
    pytest.param("extends: ''\n", "3:10", "`extends` must be the path of a spec", ..., id="an empty base"),
    pytest.param("seeds: -1\n", "3:8", "`seeds` must be at least 0 but is -1", None, id="negative seed"),
    pytest.param("emit: [safetensors, safetensors]\n", "3:21", "`emit[1]` repeats safetensors", ..., id="format twice"),
    # rules over several sections
    pytest.param(
        "compare: [{name: a, criterion: snip}, {name: a, criterion: grasp}]\n",
        "3:39",
        "`compare[1]` is another method named 'a'",
        "give it another `name`",
        id="two methods of one name",
    ),
    pytest.param(
        "method: {name: a, criterion: snip}\ncompare: [{name: a, criterion: grasp}]\n",
        "4:11",
        "`compare[0]` is another method named 'a'",
        "give it another `name`",
        id="two methods of one name, one of them `method`",
    ),
    pytest.param(
        "method: snip\ncompare: [{name: snip.shuffle, criterion: grasp}]\n",
        "4:11",
        "`compare[0]` is another method named 'snip.shuffle'",
        "give it another `name`",
        id="the name of a control",
    ),
    pytest.param(
        "compare: [{name: erk, criterion: snip}]\n",
        "3:11",
        "`compare[0]` cannot be named 'erk': that is another method",
        None,
        id="the name of a preset",
    ),
    pytest.param(
        "method: {name: dense, criterion: snip}\n", "3:9", "`method` cannot be named 'dense'", None, id="the name dense"
    ),
    pytest.param(
        "tuning: {options: [ridge, batch]}\n",
        "3:27",
        "tunable option",
        "tunable: start, strength, ridge",
        id="option that is not tunable",
    ),
    # extends
    pytest.param("extends: nope.yaml\n", "3:10", "`extends` names nope.yaml, which is not a file", ..., id="no base"),
    pytest.param("extends: spec.yaml\n", "3:10", "`extends` comes back to spec.yaml", None, id="base of itself"),
    pytest.param("extends: 3\n", "3:10", "`extends` must be the path of a spec", None, id="base that is a number"),
    pytest.param(f"extends: {'a' * 300}\n", "3:10", "`extends` names", ..., id="base with a long name"),
    pytest.param('extends: "a\\0b"\n', "3:10", "`extends` names", ..., id="base with a null character"),
]


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The name of a spec file in the current directory."""
    monkeypatch.chdir(tmp_path)
    return Path("spec.yaml")


def problems(path: Path, text: str) -> tuple[tuple[str, str | None], ...]:
    """Return the problems of a spec."""
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    return caught.value.problems


@pytest.mark.parametrize(("text", "position", "piece", "hint"), BROKEN)
def test_one_problem_is_told_once_at_its_place(spec: Path, text: str, position: str, piece: str, hint: Any) -> None:
    """A spec with one mistake has one problem: place, value, rule, and a hint where there is something to say."""
    ((message, lines),) = problems(spec, GOOD + text)

    assert message.startswith(f"spec.yaml:{position}: ")
    assert piece in message
    assert hint is ... or hint == lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dataset: digits\n", ["spec.yaml:1:1: `model` is required"]),
        ("model: resnet8\n", ["spec.yaml:1:1: `dataset` is required"]),
        ("", ["spec.yaml:1:1: `model` is required", "spec.yaml:1:1: `dataset` is required"]),
        ("# nothing\n", ["spec.yaml:1:1: `model` is required", "spec.yaml:1:1: `dataset` is required"]),
        ("- model: resnet8\n", ["spec.yaml:1:1: a spec must be a mapping of keys"]),
        ("resnet8\n", ["spec.yaml:1:1: a spec must be a mapping of keys"]),
        (GOOD + "method: {name: mine}\n", ["spec.yaml:3:9: `method.criterion` is required"]),
    ],
)
def test_what_is_missing_is_told(spec: Path, text: str, expected: list[str]) -> None:
    """A required key is reported at the mapping that lacks it."""
    assert expected == [message for message, _ in problems(spec, text)]


@pytest.mark.parametrize("section", ["model", "dataset"])
def test_a_choice_without_a_name_lists_the_names(spec: Path, section: str) -> None:
    """Options without the `name` they belong to are refused with the command that lists the names."""
    text = GOOD.replace(f"{section}: ", f"{section}: {{}} # ")

    message, hint = problems(spec, text)[0]

    assert f"`{section}` needs the `name` of a {section}" in message
    assert f"run `autosparse list {section}s`" == hint


def test_every_problem_is_told_in_the_order_written(spec: Path) -> None:
    """One run of the command shows all mistakes, from the top of the file to its end."""
    training = "training:\n  momentum: 1.0\n  lr: 0\n  batch: 1.5\n"
    text = f"model: resnet9\ndataset: digit\nbudget: [99]\n{training}seeds: [0, 0]\n"

    messages = problems(spec, text)

    assert ["1:8", "2:10", "3:10", "5:13", "6:7", "7:10", "8:12"] == [
        message.removeprefix("spec.yaml:").partition(": ")[0]
        for message, _ in messages
        if "at least 1 value" not in message
    ]
    assert ("spec.yaml:1:8: `model` must be a model but is 'resnet9'", "did you mean `resnet8`?") == messages[0]


@pytest.mark.parametrize("text", ["budget: [99]\n", "irp: {model: {name: mlp, widths: [0]}}\n", "seeds: [-1]\n"])
def test_a_wrong_item_is_one_problem(spec: Path, text: str) -> None:
    """A list that holds only a wrong item is not reported as empty as well."""
    assert ["at least 1 value" in message for message, _ in problems(spec, GOOD + text)] == [False]


@pytest.mark.parametrize(
    "text", ["method: {}\n", "method: {criterion: {images: 3}}\n", "method: {criterion: [snip]}\n"]
)
def test_an_unnamed_method_is_not_told_of_its_name(spec: Path, text: str) -> None:
    """A broken method without a name is reported for its missing key, not for a name that it never had."""
    ((message, _),) = problems(spec, GOOD + text)

    assert "`method.criterion` " in message


@pytest.mark.parametrize(
    ("data", "position", "piece"),
    [
        pytest.param(b"\xff\xfea\x00", "1:1", "not UTF-8", id="UTF-16"),
        pytest.param(b"a: 1\nb: \xc3\xa9\xff\n", "2:5", "not UTF-8", id="in the second line"),
        pytest.param(b"a: \x00\n", "1:4", "not allowed in YAML", id="null character"),
    ],
)
def test_bytes_that_are_no_text(spec: Path, data: bytes, position: str, piece: str) -> None:
    """A file that is not UTF-8 is refused at the first wrong byte."""
    spec.write_bytes(data)

    with pytest.raises(SpecError) as caught:
        load_spec(spec)

    assert caught.value.message.startswith(f"spec.yaml:{position}: ")
    assert piece in caught.value.message


@pytest.mark.parametrize(
    ("name", "piece", "hint"),
    [
        ("nope.yaml", "nope.yaml does not exist", "run `autosparse init` to write a spec"),
        ("folder", "folder is a folder", "name a spec file in it"),
        ("spec.yaml/x", "spec.yaml/x cannot be read", None),
    ],
)
def test_a_file_that_cannot_be_read(spec: Path, name: str, piece: str, hint: str | None) -> None:
    """A missing spec, or one that is not a file, is a usage error without a position."""
    spec.write_text(GOOD)
    Path("folder").mkdir()

    with pytest.raises(UsageError) as caught:
        load_spec(Path(name))

    assert piece in caught.value.message
    assert hint == caught.value.hint
    assert 2 == caught.value.exit_code


FULL: dict[str, Any] = {
    "version": 1,
    "model": {"name": "resnet8", "width": 4},
    "dataset": {"name": "cifar10", "validation": 500},
    "budget": [0.9],
    "target": {"device": "cpu", "threads": 1, "backend": {"name": "local"}},
    "method": {"name": "mine", "criterion": {"name": "snip", "images": 8}, "allocation": "erk", "selection": "top"},
    "irp": {"model": {"name": "mlp", "widths": [3]}, "rounds": 2, "seeds": [1], "training": {"lr": 0.1}},
    "scorer": {"name": "mlp", "features_used": ["layer"]},
    "tuning": {"trials": 1, "options": ["width"]},
    "training": {"epochs": 1, "drops": [0.5]},
    "compare": ["snip", {"criterion": "grasp", "schedule": {"name": "linear", "rounds": 2}}],
    "controls": ["shuffle"],
    "sanity": {"methods": ["mine", "best"], "checks": ["shuffle"], "budget": 0.9, "seeds": 1},
    "seeds": [0],
    "emit": ["safetensors"],
}


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of everything in some data."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(result for key, value in inner for result in places(value, (*path, key)))]


def replaced(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of some data with another value at a path."""
    if not path:
        return value
    copy = dict(data) if isinstance(data, dict) else list(data)
    copy[path[0]] = replaced(copy[path[0]], path[1:], value)
    return copy


ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 2**70)
    | st.floats(-2, 200)
    | st.sampled_from(["", "a", "snip", "auto"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["width", "a"]), inner, max_size=2),
    max_leaves=4,
)


def is_loaded_or_refused(path: Path, position: tuple[Any, ...], value: Any) -> bool:
    """Return whether a spec with an odd value loads or is refused with an error at a position."""
    path.write_text(yaml.safe_dump(replaced(FULL, position, value)), encoding="utf-8")
    try:
        load_spec(path)
    except AutosparseError as error:
        return isinstance(error, SpecError) and all(message.startswith(f"{path}:") for message, _ in error.problems)
    return True


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from([position for position in places(FULL) if "name" not in position]), ODD)
def test_any_value_anywhere_loads_or_is_refused(spec: Path, position: tuple[Any, ...], value: Any) -> None:
    """Whatever stands where a value is due, the spec loads or is refused by SpecErrors with places."""
    assert is_loaded_or_refused(spec, position, value)


@pytest.mark.parametrize("value", [{}, [{}], 3])
def test_a_name_that_is_no_text_is_refused(spec: Path, value: Any) -> None:
    """A `name` that is a number, a list or a mapping is refused like a misspelt one."""
    unnamed = {key: value for key, value in FULL["method"].items() if key != "name"}
    plain = replaced(FULL, ("method",), unnamed)
    for position in [
        ("model", "name"),
        ("method", "criterion", "name"),
        ("scorer", "name"),
        ("target", "backend", "name"),
    ]:
        spec.write_text(yaml.safe_dump(replaced(plain, position, value)), encoding="utf-8")
        with pytest.raises(SpecError):
            load_spec(spec)
