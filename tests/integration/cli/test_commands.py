"""The command line: output streams, exit codes, and the choice of the spec."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from autosparse.backends import machine, this_machine
from autosparse.cli.app import app
from autosparse.packaged import shipped
from tests.conftest import SMALL, Ended, Workspace, call

ROOT = Path(__file__).parents[3]
COMMANDS = sorted(
    str(command.name or command.callback.__name__) for command in app.registered_commands if command.callback
)


@pytest.mark.parametrize("command", [*COMMANDS, "cache dir", "cache ls", "cache verify", "runs", "runs rm"])
def test_every_command_has_help_and_is_documented(capsys: pytest.CaptureFixture[str], command: str) -> None:
    """`--help` says what a command does, and the page of commands names it."""
    ended = call(capsys, f"{command} --help")

    assert 0 == ended.code
    assert "Usage: autosparse" in ended.out
    assert f"`autosparse {command}`" in (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")


def test_help_lists_every_command_by_task(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once, with its whole summary."""
    monkeypatch.setenv("COLUMNS", "100")
    out = call(capsys, "--help").out
    listed = re.findall(r"^  ([a-z]+)  +[A-Z]", out, re.MULTILINE)

    assert sorted([*COMMANDS, "cache", "runs"]) == sorted(listed)
    assert "..." not in out.partition("Start:")[2]


def test_alone_it_says_what_to_try(capsys: pytest.CaptureFixture[str]) -> None:
    """Three commands that there are, and where the others are."""
    ended = call(capsys, "")
    named = [line.split()[1] for line in ended.out.splitlines() if line.startswith("  autosparse ")]

    assert 0 == ended.code
    assert 3 == len({*named} & {*COMMANDS})
    assert "autosparse --help" in ended.out


def test_a_run_is_removed_by_name(
    finished: tuple[Workspace, Ended], here: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its folder goes, the others stay; a folder with anything else in it is left alone, as is one that is no run's."""
    for name in ("a-1", "a-2", "a-3"):
        shutil.copytree(finished[0].folder / finished[1].json["run"], here.folder / "runs" / name)
    (here.folder / "runs" / "a-3" / "thesis.tex").write_text("mine")
    (here.folder / "runs" / "a-1" / ".report.json.1f2e3d4c5b6a.draft").write_text("a draft of a killed run")
    removed, kept, unknown = (call(capsys, f"runs rm {name} --yes") for name in ("a-1", "a-3", "a-9"))

    assert (0, 2, 2) == (removed.code, kept.code, unknown.code)
    assert "holds `thesis.tex`, which is not part of a run" in kept.err
    assert ["a-2", "a-3"] == sorted(path.name for path in (here.folder / "runs").iterdir())
    assert ["runs/a-2", "runs/a-3"] == sorted(run["run"] for run in call(capsys, "runs --json").json["runs"])


@pytest.mark.parametrize(("answer", "left"), [("y", []), ("Yes", []), ("n", ["a-1", "a-2"]), ("", ["a-1", "a-2"])])
def test_a_removal_is_confirmed(
    finished: tuple[Workspace, Ended],
    here: Workspace,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    left: list[str],
) -> None:
    """On a terminal one question names all runs; without one `--yes` is required, and nothing is removed before."""
    for name in ("a-1", "a-2"):
        shutil.copytree(finished[0].folder / finished[1].json["run"], here.folder / "runs" / name)
    refused = call(capsys, "runs rm a-1 a-2")
    terminal = io.StringIO(f"{answer}\n")
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", terminal)
    asked = call(capsys, "runs rm a-1 a-2 a-1")

    assert 2 == refused.code
    assert "`runs rm` asks for a confirmation, and stdin is no terminal\nhint: add `--yes`" in refused.err
    assert "Remove runs/a-1, runs/a-2? [y/N]" in asked.err
    assert (int(bool(left)), left) == (asked.code, sorted(path.name for path in (here.folder / "runs").iterdir()))
    assert ("removed nothing" in asked.err) is bool(left)


def test_readme_commands_are_the_ones_ci_runs() -> None:
    """The README's two commands are spelled as promised, and CI runs the same ones."""
    readme, ci = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()

    assert "python -m pip install -c constraints.txt . && autosparse run specs/digits.yaml" in readme
    assert "python -m pip install -c constraints.txt -e '.[test]' && python -m pytest" in readme
    assert "pip install --quiet -c constraints.txt -e '.[test,docs]'" in ci
    assert "python -m pytest" in ci
    assert "autosparse run specs/digits.yaml" in ci


def test_without_a_spec_the_digits_run(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """In an empty folder the embedded spec is taken, and stderr says why."""
    here.remember_rates(ROOT / "specs" / "digits.yaml")
    ended = call(capsys, "plan --json")

    assert "digits" == ended.json["spec"]
    assert "it ships with autosparse" in ended.err


def test_the_spec_last_named_is_the_one_meant(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """`run --budget 0.99` right after `plan specs/resnet_cifar.yaml` means that spec."""
    spec = ROOT / "specs" / "resnet_cifar.yaml"
    here.remember_rates(spec, "dataset.root=nowhere")
    assert 0 == call(capsys, f"plan {spec} --set dataset.root=nowhere").code
    plan = call(capsys, "plan --budget 0.99 --json")
    run = call(capsys, f"run --budget 0.99 --set dataset.root={here.folder / 'nowhere'}")

    assert ("resnet_cifar", [0.99]) == (plan.json["spec"], plan.json["budgets"])
    assert "it is the last one used here" in plan.err
    assert 5 == run.code
    assert "CIFAR-10 is not in" in run.err
    assert "hint: run `python -c" in run.err


def test_missing_data_is_a_warning_in_a_plan(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """A plan never needs the data: it names the missing files and the remedy, and exits with code 0."""
    spec = ROOT / "specs" / "resnet_cifar.yaml"
    here.remember_rates(spec, f"dataset.root={here.folder}")
    ended = call(capsys, f"plan {spec} --set dataset.root={here.folder}")

    assert 0 == ended.code
    assert "warning: CIFAR-10 is not in" in ended.err


@pytest.mark.parametrize(
    ("setting", "problems"),
    [
        ("dataset.root={folder}", ["error: CIFAR-10 is not in"]),
        ("target.device=cuda:7", ["error: CIFAR-10 is not in", "error: this machine has no device cuda:7"]),
        ("training.kernels=compiled", ["error: CIFAR-10 is not in", "needs a C++ compiler, and there is no nothing"]),
    ],
)
def test_a_strict_plan(
    here: Workspace,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    problems: list[str],
) -> None:
    """It is shown, and exits with code 5 with everything that is missing; without `--strict` these are warnings."""
    monkeypatch.setenv("CXX", "nothing")
    spec = ROOT / "specs" / "resnet_cifar.yaml"
    settings = [setting.format(folder=here.folder), f"dataset.root={here.folder}"]
    here.remember_rates(spec, *settings)
    line = f"plan {spec} {' '.join(f'--set {one}' for one in settings)}"
    warned, ended = call(capsys, line), call(capsys, f"{line} --strict")

    assert (0, 5) == (warned.code, ended.code)
    assert warned.out.splitlines()[0] == ended.out.splitlines()[0]
    assert all(problem in ended.err for problem in problems)
    assert "warning: CIFAR-10 is not in" in warned.err


def test_a_strict_plan_without_problems(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """It exits with code 0."""
    assert 0 == call(capsys, "plan small.yaml --strict").code


def test_an_autosparse_yaml_above_is_found(
    here: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`init` writes a spec that commands find from a folder below."""
    assert 0 == call(capsys, "init").code
    (here.folder / "below").mkdir()
    monkeypatch.chdir(here.folder / "below")
    ended = call(capsys, "plan --json")

    assert "autosparse" == ended.json["spec"]
    assert f"it is in {here.folder}" in ended.err


def test_init_never_overwrites_unasked(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """A second `init` refuses, `--force` does not."""
    assert [0, 2, 0] == [call(capsys, line).code for line in ("init", "init", "init --force")]


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        ("plan nowhere.yaml", 2, "nowhere.yaml does not exist"),
        ("plan .", 2, "is a folder"),
        ("plan small.yaml --budget 99", 2, "--budget 99: `budget[0]` must be at least 0 and below 1 but is 99"),
        ("plan small.yaml --set training.epoch=3", 2, "unknown key `epoch` in `training`"),
        ("plan small.yaml --set training", 2, "must be `path.to.key=value`"),
        ("report", 2, "no finished run"),
        ("report nothing", 2, "no run `nothing`"),
        ("list criterion", 2, "did you mean `criteria`?"),
        ("init --template quickstrat", 2, "did you mean `quickstart`?"),
        ("validate nowhere.yaml .", 2, "2 errors"),
        ("frobnicate", 2, "there is no command `autosparse frobnicate`"),
        ("pln small.yaml", 2, "did you mean `plan`?"),
        ("cache gx", 2, "there is no command `autosparse cache gx`"),
        (
            "plan small.yaml --bugdet 0.9",
            2,
            "`autosparse plan` has no option `--bugdet`\nhint: did you mean `--budget`?",
        ),
        ("plan small.yaml --frob x", 2, "has no option `--frob`\nhint: run `autosparse plan --help`"),
        ("run small.yaml --workers x", 2, "has no option `--workers`\nhint: run `autosparse run --help`"),
        ("init /dev/null/x.yaml", 5, "/dev/null/x.yaml cannot be written"),
        ("plan small.yaml --budget", 2, "option `--budget` requires an argument"),
        ("plan small.yaml other.yaml", 2, "`autosparse plan` takes no more arguments, but 'other.yaml' is given"),
        ("bench small.yaml --rounds x", 2, "`--rounds x` must be a whole number"),
        ("bench small.yaml --rounds=0", 2, "`--rounds=0` must be at least 1"),
        ("report --sort size", 2, "`--sort size` must be one of `accuracy`, `name`"),
        ("runs rm", 2, "`autosparse runs rm` needs RUN...\nhint: run `autosparse runs rm --help`"),
    ],
)
def test_errors_are_sentences(
    here: Workspace, capsys: pytest.CaptureFixture[str], line: str, code: int, text: str
) -> None:
    """A wrong input exits with its code, explains the error on stderr, and leaves stdout empty."""
    ended = call(capsys, line)

    assert code == ended.code
    assert text in ended.err
    assert "" == ended.out


def test_an_impossible_budget_is_refused_before_training(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """A sparsity that leaves fewer weights than layers is refused before anything runs and a run has its folder."""
    ended = call(capsys, "run small.yaml --quiet --budget 0.9999")
    plan = call(capsys, "plan small.yaml --budget 0.9999")

    assert (2, 2) == (ended.code, plan.code)
    assert not (here.cache / "artifacts").exists()
    assert not (here.folder / "runs").exists()
    assert "leaves 0 of" in ended.err
    assert "the maximum, one weight in each layer, is 0.99" in ended.err


@pytest.mark.parametrize(
    ("written", "where", "text"),
    [
        ("budget: [0.9, {parameters: 100}]", "small.yaml:4:15: ", "less than the 178 parameters"),
        ("budget: {macs: 99}", "small.yaml:4:9: ", "hint: did you mean {macs: 99%}? the minimum, one weight in each"),
        ("budget: [0.9, {macs: 0.1%}]", "small.yaml:4:15: ", "hint: the minimum, one weight in each layer, is 253, or"),
        ("", "sparsity 0.98 ", "leaves 1 of 55 weights for the 2 layers of mlp"),
    ],
)
def test_an_impossible_budget_is_told_with_its_place(
    here: Workspace, capsys: pytest.CaptureFixture[str], written: str, where: str, text: str
) -> None:
    """At its position; a default has none."""
    spec = SMALL.replace("budget: [0.8, 0.9]", written)
    if not written:  # one pixel, five hidden units, ten classes
        spec = spec.replace("{name: resnet8, width: 4}", "{name: mlp, widths: [5]}")
        spec = spec.replace("dataset: digits", "dataset: {name: digits, size: 1}")
    (here.folder / "small.yaml").write_text(spec)
    ended = call(capsys, "plan small.yaml")

    assert 2 == ended.code
    assert f"error: {where}" in ended.err
    assert text in ended.err


def test_a_plan_shows_a_relative_budget_as_a_number(
    here: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its currency's column, next to its notation; a bare percentage stays a sparsity. `render` keeps it."""
    monkeypatch.setenv("COLUMNS", "80")
    budgets = "--budget macs=30% --budget parameters=50% --budget bytes=4x --budget 30%"
    ended = call(capsys, f"plan small.yaml {budgets}")
    lines = ended.out.splitlines()
    rows = {line[:14].strip(): line for line in lines if (line[:2].strip() and "%" in line) or line.startswith("0.3")}
    json_ = call(capsys, f"plan small.yaml {budgets} --json").json
    limits = {item["budget"]: item["limit"] for item in json_["translations"]}

    assert "plan small: resnet8 on digits, sparsity 0.3, 30% macs, 50% parameters, 4x bytes" == lines[0].strip()
    assert all(len(line) <= 80 for line in lines)
    assert {"30% macs": 14870, "50% parameters": 2571, "4x bytes": 5319, "0.3": None} == limits
    assert "≤ 14.9k" in rows["30% macs"]
    assert "2,571" in rows["50% parameters"]
    assert [{"macs": "30%"}, {"parameters": "50%"}, {"bytes": "4x"}, 0.3] == json_["budgets"]
    assert json_["budgets"] == call(capsys, f"render small.yaml {budgets} --json").json["resolved"]["budget"]


def test_a_plan_shows_its_budget_in_every_currency(
    here: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that fits 80 columns, with ranges where masks decide; the same numbers in JSON."""
    monkeypatch.setenv("COLUMNS", "80")
    budgets = "--budget 90% --budget parameters=600 --budget macs=5k --budget bytes=4KiB"
    ended = call(capsys, f"plan small.yaml {budgets}")
    lines = ended.out.splitlines()
    table = lines[next(n for n, line in enumerate(lines) if line.startswith("budget ")) :]
    json_ = call(capsys, f"plan small.yaml {budgets} --json").json

    assert "plan small: resnet8 on digits, sparsity 0.9, 600 parameters, 5k macs, 4KiB" == lines[0].strip()
    assert all(len(line) <= 80 for line in lines)
    assert ["0.9", "0.9", "496", "674", "1,720–23.4k", "4.03", "kB"] == table[1].split()
    assert ["uniform", "4,936"] == table[2].split()
    assert ["600", "parameters", "0.915", "422", "600", "1,424–22.3k", "3.73", "kB"] == table[3].split()
    assert ["5k", "macs", "0.735–0.983", "84–1,316", "262–1,494", "≤", "5,000", "2.09–7.3", "kB"] == table[5].split()
    assert [0.9, {"parameters": 600}, {"macs": 5000}, {"bytes": 4096}] == json_["budgets"]
    assert ["0.9", "600 parameters", "5k macs", "4KiB"] == [item["budget"] for item in json_["translations"]]
    assert {"lowest": 84, "highest": 1316, "uniform": 499} == json_["translations"][2]["kept"]
    assert (4096 - 4 < json_["translations"][3]["bytes"] <= 4096) is True


@pytest.mark.parametrize(
    "kind",
    ["models", "datasets", "criteria", "allocations", "selections", "schedules", "repairs", "units", "scorers",
     "features", "formats", "backends", "presets", "controls", "checks", "specs", "templates"],
)  # fmt: skip
def test_lists_have_a_line_for_everything(here: Workspace, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    """Whatever a spec can name is listed with a line of help."""
    items = call(capsys, f"list {kind} --json").json["items"]

    assert items
    assert all(item["name"] and item["help"] for item in items)
    assert 0 == call(capsys, f"list {kind}").code


def test_kinds_are_listed_where_none_is_named(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """Each of them is one that `list` takes."""
    for kind in call(capsys, "list").out.split():
        assert 0 == call(capsys, f"list {kind}").code


@pytest.mark.parametrize("line", ["plan small.yaml", "doctor", "cache ls", "validate small.yaml", "render small.yaml"])
def test_json_is_one_document_on_stdout(here: Workspace, capsys: pytest.CaptureFixture[str], line: str) -> None:
    """With `--json`, stdout is one JSON document and nothing else."""
    assert isinstance(call(capsys, f"{line} --json").json, dict)


def test_a_rendered_spec_compiles_to_the_same_keys(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """The output of `render`, as text and as JSON, is a valid spec with the same steps."""
    rendered = call(capsys, "render small.yaml --json").json["resolved"]
    (here.folder / "again.yaml").write_text(json.dumps(rendered))
    (here.folder / "text.yaml").write_text(call(capsys, "render small.yaml").out)
    keys = [
        [step["key"] for step in call(capsys, f"plan {f} --json").json["steps"]]
        for f in ("small.yaml", "again.yaml", "text.yaml")
    ]

    assert keys[0] == keys[1] == keys[2]


def test_names_are_printed_as_they_are(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """Markup, control characters and direction marks in a user's names do nothing."""
    for name in ("[red]x.yaml", "a\x1b[31mb.yaml", "‮x.yaml", "名前.yaml", "[bold x.yaml"):
        (here.folder / name).write_text(SMALL)
        ended = call(capsys, f"plan {shlex.quote(name)}")
        broken = call(capsys, f"plan {shlex.quote(name)} --set x=1")

        assert (0, 2) == (ended.code, broken.code)
        assert "\x1b" not in ended.out + broken.err
        assert "‮" not in ended.out + broken.err


def test_report_and_runs_tell_what_was_run(finished: tuple[Workspace, Ended]) -> None:
    """`report` shows the latest run again, `runs` lists it, without the cache being touched."""
    workspace, ended = finished
    report = workspace.run("report")

    assert ended.json == workspace.run("report", "--json").json
    assert 0 == report.code
    assert "" == report.err
    for text in ("test accuracy in %", "learned.shuffle", "sparsity 0.9: ", "exported models in", "--wide` shows"):
        assert text in report.out
    assert ended.json["run"] in workspace.run("runs").out


@pytest.mark.slow
def test_progress_is_a_line_a_step_where_there_is_no_terminal(workspace: Workspace) -> None:
    """Without a terminal every step prints one line with its time and the time left, on stderr."""
    ended = workspace.run(
        "run",
        "small.yaml",
        "--budget",
        "0.9",
        "--set",
        "compare=[random]",
        "--set",
        "method=random",
        "--set",
        "emit=[]",
    )
    lines = [line for line in ended.err.splitlines() if line.startswith("[")]

    assert 0 == ended.code
    assert [f"[{n}/{len(lines)}]" for n in range(1, len(lines) + 1)] == [line.split()[0] for line in lines]
    assert all("left" in line for line in lines)


@pytest.mark.slow
def test_a_terminal_without_unicode_is_no_crash(finished: tuple[Workspace, Ended]) -> None:
    """If stdout is ASCII, reports replace other characters and JSON escapes them."""
    workspace = finished[0]
    ascii_only = {**workspace.environment, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    for line in ("report", "report --json", "schema", "list allocations", "plan small.yaml"):
        ended = subprocess.run(
            [sys.executable, "-m", "autosparse", *line.split()],
            cwd=workspace.folder,
            env=ascii_only,
            capture_output=True,
        )

        assert 0 == ended.returncode, ended.stderr
        assert ended.stdout.isascii()


@pytest.mark.parametrize("text", ["not json", "{}", '{"schema_version": "x"}'])
def test_a_damaged_report_is_told(
    finished: tuple[Workspace, Ended], here: Workspace, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    """A report.json that cannot be read is said to be damaged, and hides no other run."""
    shutil.copytree(finished[0].folder / "runs", here.folder / "runs")
    report = next((here.folder / "runs").glob("*/report.json"))
    report.write_text(text)
    shown, listed = call(capsys, f"report {report.parent.name}"), call(capsys, "runs")

    assert (2, 0) == (shown.code, listed.code)
    assert "report.json is damaged" in shown.err
    assert "report.json is damaged" in listed.out


def test_a_full_disk_behind_stdout_is_a_sentence(finished: tuple[Workspace, Ended]) -> None:
    """When stdout cannot take the result, the command says so and ends with 5."""
    workspace = finished[0]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "autosparse", "report"],
            cwd=workspace.folder,
            env=workspace.environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )

    assert 5 == ended.returncode
    assert "error: the output cannot be written or read: No space left on device" in ended.stderr


def test_a_missing_device_is_a_warning_in_a_plan(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """A plan for a device that this machine lacks says so; a run ends with 5."""
    if "mps" in this_machine().devices:
        pytest.skip("this machine has the device")
    plan = call(capsys, "plan small.yaml --set target.device=mps")
    run = call(capsys, "run small.yaml --set target.device=mps")

    assert (0, 5) == (plan.code, run.code)
    assert "warning: this machine has no device mps" in plan.err
    assert "torch finds no such device" in run.err
    assert "is unknown until a device mps is available" in plan.out


def test_more_threads_than_cores_are_a_warning_in_a_plan(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """Not where steps run on other machines, and a plan that was saved with them is no less as it was."""
    here.remember_rates("small.yaml", "target.threads=1000")
    saved = call(capsys, "plan small.yaml --quiet --set target.threads=1000 --out saved.json")
    again = call(capsys, "plan saved.json --json")
    here_alone = call(capsys, "plan small.yaml --json --set target.threads=1000")
    elsewhere = call(capsys, "plan small.yaml --json --set target.threads=1000 --set target.backend=ray")

    assert (0, 0, 0, 0) == (saved.code, again.code, here_alone.code, elsewhere.code), again.err
    assert ": 1000 threads are slower than one per core" in here_alone.err
    assert "cores" not in elsewhere.err


@pytest.mark.slow
def test_what_kernels_need_is_asked_for_before_anything_runs(
    here: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 5 and the command that installs it; a plan warns."""
    monkeypatch.setattr(machine, "version_of", lambda package: "not installed" if package == "numba" else "1.0")
    asked = "small.yaml --set training.kernels=sparse --set target.device=cpu"
    planned, ended = call(capsys, f"plan {asked}"), call(capsys, f"run {asked}")
    printed = (
        "`training.kernels: sparse` needs extra `sparse`, which is not installed\n"
        "hint: run `pip install 'autosparse[sparse]'`"
    )

    assert (0, 5) == (planned.code, ended.code)
    assert f"warning: {printed}" in planned.err
    assert printed in ended.err
    assert not (here.cache / "artifacts").exists()


def test_compiling_needs_a_compiler(
    here: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for before anything runs, as libraries are; a plan warns."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    asked = "small.yaml --set training.kernels=compiled --set target.device=cpu"
    planned, ended = call(capsys, f"plan {asked}"), call(capsys, f"run {asked}")
    printed = "`training.kernels: compiled` needs a C++ compiler, and there is no no-such-compiler"

    assert (0, 5) == (planned.code, ended.code)
    assert f"warning: {printed}" in planned.err
    assert printed in ended.err
    assert "--set training.kernels=dense" in ended.err
    assert not (here.cache / "artifacts").exists()


def test_a_broken_pipe_is_no_crash(finished: tuple[Workspace, Ended]) -> None:
    """`autosparse ... | head -1` ends without a traceback."""
    process = finished[0].start("cache", "ls")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    process.wait()

    assert "Traceback" not in err


def test_help_and_plans_do_not_import_torch(finished: tuple[Workspace, Ended]) -> None:
    """Commands that only read specs and the store start at once: `run` alone imports torch."""
    workspace, _ = finished
    lines = ("--help", "plan small.yaml --quiet", "validate small.yaml", "report", "list criteria", "doctor --no-test")
    for line in lines:
        script = f"""
import sys
from autosparse.cli import main
try:
    main({line.split()!r})
except SystemExit as end:
    assert not end.code, end.code
assert not {{"torch", "optuna", "sklearn"}} & set(sys.modules)
"""
        ended = subprocess.run(
            [sys.executable, "-c", script],
            cwd=workspace.folder,
            env=workspace.environment,
            capture_output=True,
            text=True,
        )

        assert 0 == ended.returncode, ended.stderr


@pytest.mark.slow
def test_bench_tells_rates_and_measures_what_plans_use_anew(
    here: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One document, whose ratios are of the printed rounds; the next plan has nothing to measure."""
    monkeypatch.setattr("autosparse.cost.bench._MOMENT", 0.01)
    (here.folder / "small.yaml").write_text(SMALL)
    ended = call(capsys, "bench small.yaml --rounds 1 --json")
    document = ended.json
    assert "measuring this machine" in ended.err
    (plain, measured), item = document["training"][0]["rounds"][0], document["training"][0]

    assert (0, 1) == (ended.code, document["schema_version"])
    assert measured / plain == item["ratio"] == item["images_per_second"] / item["plain_images_per_second"]
    assert document["scoring"]["weights_per_second"]["paper"] > 0
    assert "measuring this machine" not in call(capsys, "plan small.yaml").err
    assert 2 == call(capsys, "bench small.yaml --rounds 0").code


def test_doctor_prunes_and_trains_a_network(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """The installed parts work together, or the exit code is 1 and the reason is printed."""
    ended = call(capsys, "doctor --json")

    assert (0, "", "cpu") == (ended.code, ended.json["self_test"]["problem"], ended.json["self_test"]["device"])
    assert ended.json["self_test"]["seconds"] > 0
    assert ended.json["memory_bytes"] > 2**28
    assert {"value", "source"} == ended.json["limits"]["threads"].keys()
    assert ended.json["limits"]["cores"]["value"] >= 1
    assert ended.json["limits"]["memory"]["value"] >= ended.json["memory_bytes"]
    assert this_machine().threads == ended.json["threads"] == ended.json["limits"]["threads"]["value"]
    assert isinstance(ended.json["load"]["busy"], bool)
    assert str(here.cache) in " ".join(call(capsys, "doctor --no-test").out.split())
    assert call(capsys, "doctor --no-test --json").json["self_test"] is None


def test_doctor_says_what_does_not_work(
    here: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test detects a torch that fails."""

    def fails(*_: object) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr("autosparse.api.selftest.build_model", fails)
    ended = call(capsys, "doctor")

    assert 1 == ended.code
    assert "failed: RuntimeError: operator torchvision::nms does not exist" in ended.out
    assert "error: the self-test failed on cpu: RuntimeError: operator" in ended.err
    assert "hint: install torch and torchvision of versions that belong together" in ended.err


@pytest.mark.parametrize("template", shipped("templates"))
def test_every_template_is_written_and_planned(
    here: Workspace, capsys: pytest.CaptureFixture[str], template: str
) -> None:
    """With the code that it names; nothing is overwritten."""
    written = call(capsys, f"init own.yaml --template {template}")
    here.remember_rates("own.yaml")
    ended = call(capsys, "plan own.yaml --json")

    assert (0, 0) == (written.code, ended.code)
    assert (here.folder / "own_model.py").exists() == (template == "own_model") == ("own_model.py" in written.out)
    assert 2 == call(capsys, f"init own.yaml --template {template}").code


def test_init_keeps_code_that_is_there(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is written where one of its files exists."""
    (here.folder / "own_model.py").write_text("mine")
    ended = call(capsys, "init own.yaml --template own_model")

    assert 2 == ended.code
    assert "own_model.py is already there" in ended.err
    assert not (here.folder / "own.yaml").exists()
    assert "mine" == (here.folder / "own_model.py").read_text()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("autosparse do", ["doctor"]),
        pytest.param("autosparse plan sm", ["small.yaml"], marks=pytest.mark.slow),
        ("autosparse plan sub/", ["sub/other.yaml"]),
        pytest.param("autosparse list cri", ["criteria"], marks=pytest.mark.slow),
        pytest.param("autosparse init --template own", ["own_model"], marks=pytest.mark.slow),
        pytest.param("autosparse report dig", ["digits-2", "digits-1"], marks=pytest.mark.slow),
        ("autosparse plan --set training.ep", ["training.epochs="]),
        ("autosparse run --only irp/seed100/round1", ["irp/seed100/round1"]),
    ],
)
def test_a_shell_completes(here: Workspace, line: str, expected: list[str]) -> None:
    """It completes commands, specs, kinds, templates, runs, settings and steps."""
    (here.folder / "sub").mkdir()
    shutil.copy("small.yaml", "sub/other.yaml")
    shutil.copy("small.yaml", "autosparse.yaml")
    for number in (1, 2):
        shutil.copytree(ROOT / "tests" / "fixtures" / "runs" / f"digits-{number}", f"runs/digits-{number}")
        os.utime(f"runs/digits-{number}/report.json", (number, number))
        os.utime(f"runs/digits-{number}/plan.json", (number, number))
    words = len(line.split()) - 1
    asked = {"_AUTOSPARSE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(words)}
    command = [sys.executable, "-c", "from autosparse.cli import main; main([])"]
    ended = subprocess.run(command, env={**here.environment, **asked}, cwd=here.folder, capture_output=True, text=True)

    assert expected == ended.stdout.split()


@pytest.mark.parametrize("line", ["autosparse run --only i", "autosparse plan --set t"])
def test_a_shell_that_completes_is_told_nothing_of_a_broken_spec(here: Workspace, line: str) -> None:
    """The command itself reports the error."""
    (here.folder / "autosparse.yaml").write_text("version: 1\nmodel: lenet\n")
    asked = {"_AUTOSPARSE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": "3"}
    command = [sys.executable, "-c", "from autosparse.cli import main; main([])"]
    ended = subprocess.run(command, env={**here.environment, **asked}, cwd=here.folder, capture_output=True, text=True)

    assert ("", "") == (ended.stdout.strip(), ended.stderr)
