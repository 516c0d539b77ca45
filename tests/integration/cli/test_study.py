"""`autosparse study`: one value after another changed, everything else shared."""

from __future__ import annotations

import pytest

from tests.conftest import SMALL, Ended, Workspace, call


@pytest.fixture
def spec(here: Workspace) -> Workspace:
    """A directory with the small spec at one budget."""
    (here.folder / "spec.yaml").write_text(SMALL.replace("budget: [0.8, 0.9]", "budget: 0.8"))
    return here


def study(capsys: pytest.CaptureFixture[str], *arguments: str) -> Ended:
    """A study of the small spec."""
    return call(capsys, " ".join(("study spec.yaml", *arguments)))


def test_a_plan_tells_what_is_shared(spec: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """A variant's steps count once, where they are met first; nothing but the method is run."""
    variants = study(capsys, "--plan --json --vary irp.rounds=2,3 --vary scorer.steps=20,10").json["variants"]

    assert [
        ("irp.rounds", 2, False),
        ("irp.rounds", 3, True),
        ("scorer.steps", 20, True),
        ("scorer.steps", 10, False),
    ] == [(each["factor"], each["value"], each["base"]) for each in variants]
    assert variants[0]["run"] == variants[0]["steps"]
    assert variants[1]["run"] < variants[1]["steps"]  # two rounds are there by then
    assert 0 == variants[2]["run"]
    assert not list(spec.folder.glob("cache/artifacts/*"))


def test_a_study_runs_once(spec: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """Every value has its accuracy; the second call prints the same and runs nothing. `--test` is the other split."""
    arguments = "--vary method=random,snip --set training.epochs=1"
    first = study(capsys, arguments)
    again = study(capsys, arguments)
    document = study(capsys, arguments, "--json --quiet").json
    test = study(capsys, arguments, "--json --quiet --test").json

    assert 0 == first.code
    assert first.out == again.out
    assert "nothing to run" in again.err
    assert ["learned", "random", "snip"] == [level["value"] for level in document["levels"]]
    assert [True, False, False] == [level["base"] for level in document["levels"]]
    assert "validation" == document["split"]
    assert "test" == test["split"]
    assert document["levels"] != test["levels"]
    for text in (
        "validation accuracy",
        "learned (spec)",
        "sparsity 0.8",
        "one seed: seed variation not included",
    ):
        assert text in " ".join(first.out.split())


def test_a_spec_says_what_is_varied(spec: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """Its section `study` is taken, a `--vary` of the same path replaces it, and it enters no key."""
    path = spec.folder / "spec.yaml"
    plain = call(capsys, "plan spec.yaml --json").json
    path.write_text(path.read_text() + "study: {irp.rounds: [2, 3], training.lr: [0.05, 0.1]}\n")

    variants = study(capsys, "--plan --json --vary irp.rounds=3,4").json["variants"]

    assert [3, 4, 0.05, 0.1] == [each["value"] for each in variants]
    assert [step["key"] for step in plain["steps"]] == [
        step["key"] for step in call(capsys, "plan spec.yaml --json").json["steps"]
    ]


def test_what_a_spec_varies_is_checked_with_it(spec: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """At its place in the spec, by every command."""
    path = spec.folder / "spec.yaml"
    before = path.read_text()
    for line, reported in (
        ("study: {foo: [1]}", "unknown key `foo`"),
        ("study: {irp.round: [2, 3]}", "unknown key `round` in `irp`"),
        ("study: {irp.rounds: [4, 0]}", "`irp.rounds` must be at least 1 but is 0"),
    ):
        path.write_text(f"{before}{line}\n")
        ended = call(capsys, "validate spec.yaml")

        assert 2 == ended.code
        assert f"spec.yaml:{len(before.splitlines()) + 1}:" in ended.err
        assert reported in ended.err


def test_what_the_spec_has_is_named(spec: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """A choice that lacks the option that is varied by its name."""
    chosen = study(capsys, "--plan --json --vary scorer.pretrained=cifar-v1").json["variants"]

    assert ["mlp", "cifar-v1"] == [each["value"] for each in chosen]


@pytest.mark.parametrize(
    ("arguments", "text", "hint"),
    [
        ("", "there is nothing to vary", "--vary irp.rounds=4,8"),
        ("--vary irp.rounds", "must be `path.to.key=value,value`", "--vary irp.rounds=4,8"),
        ("--vary irp.rounds=", "names no value", "--vary irp.rounds=4,8"),
        ("--vary irp.round=4,8", "--vary irp.round=4,8: unknown key `round` in `irp`", "did you mean `rounds`?"),
        ("--vary irp.rounds=0", "`irp.rounds` must be at least 1 but is 0", None),
        ("--vary irp.rounds=[4", "--vary irp.rounds=[4", None),
    ],
)
def test_what_cannot_be_varied_is_refused(
    spec: Workspace, capsys: pytest.CaptureFixture[str], arguments: str, text: str, hint: str | None
) -> None:
    """Exit code 2, the factor, and the reason."""
    ended = study(capsys, arguments)

    assert 2 == ended.code
    assert text in ended.err
    assert hint is None or hint in ended.err


def test_every_wrong_factor_is_reported(spec: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """Every wrong value of every factor is one error."""
    ended = study(capsys, "--vary irp.rounds=0,2,x --vary foo=1 --vary scorer.steps=[ --vary seeds")
    errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]

    assert 2 == ended.code
    assert 5 == len(errors)
    for text in (
        "`irp.rounds` must be at least 1 but is 0",
        'but is "x"',
        "--vary foo=1: unknown key `foo`",
        "--vary scorer.steps=[: expected",
        "`--vary seeds` must be `path.to.key=value,value`",
    ):
        assert 1 == sum(text in error for error in errors)
