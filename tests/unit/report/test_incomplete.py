"""Reports of runs with failed steps: cells, means over the remaining seeds, comparisons and verdicts."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from autosparse.console.report import show_report
from autosparse.core.graph.connectivity import Finding
from autosparse.html.page import plots_of, report_page
from autosparse.report.cells import counted, frontier, ranked, report_csv, report_markdown, rows_of
from autosparse.report.compare import compare_results
from autosparse.report.schema import Failure, Missing, Report, Result
from autosparse.report.verdict import Networks, judge_method, judge_results
from autosparse.report.warnings import Examined, describe_disconnected, describe_failures, describe_useless
from tests.conftest import Workspace, call
from tests.docs.outputs import INCOMPLETE
from tests.sealing import edit


@pytest.fixture
def report() -> Report:
    """A run of two seeds and budgets in which only the spec's method was trained."""
    return Report.of(json.loads(INCOMPLETE["run"].read_text(encoding="utf-8")))


def lacking(report: Report, method: str, *seeds: int, status: str = "diverged") -> Report:
    """The same report without a method's results at some seeds."""
    gone = [one for one in report.results if one.method == method and one.seed in seeds]
    missing = [Missing(one.method, one.budget, one.sparsity, one.seed, False, status, "train") for one in gone]
    kept = [one for one in report.results if one not in gone]
    return replace(report, results=kept, missing=[*report.missing, *missing])


def test_every_budget_and_method_has_its_row_and_column(report: Report) -> None:
    """Those without any result too, after the trained ones."""
    rows = {row.name: row for row in rows_of(report)}

    assert ["magnitude", "random", "odd", "dense", "magnitude.layer_mean"] == [*rows]
    assert ["diverged", "diverged"] == rows["random"].texts == rows["dense"].texts == rows["magnitude.layer_mean"].texts
    assert ["failed", "failed"] == rows["odd"].texts
    assert {"diverged", "failed"}.isdisjoint("".join(rows["magnitude"].texts).split())
    assert "magnitude" == ranked(report)[0]
    assert {*rows} - {"magnitude.layer_mean"} == {*ranked(report)}


def test_a_mean_over_the_seeds_that_are_left_says_so(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    """In its cell, and among the warnings with the seed that is missing."""
    one = lacking(report, "magnitude", 1)
    (first, *_) = rows_of(one)
    sentences = [*describe_failures([], one.missing, one.results)]
    show_report(one, ["accuracy"])

    assert all(text.endswith(", 1 diverged") for text in first.texts)
    assert "mean ± sd of 2 seeds" in capsys.readouterr().out
    assert ["magnitude at 0.9 and 15.5% macs is the mean over 1 of 2 seeds: seed 1 diverged"] == sentences


def test_a_relative_budget_is_shown_with_its_number(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    """The column has its notation, a sentence below its number; a report without one has no sentence."""
    show_report(report)
    texts = [capsys.readouterr().out, report_markdown(report), report_page(report)]
    bare = replace(report, limits={})

    assert all("15.5% macs: at most 100" in text for text in texts)
    assert "result,magnitude,15.5% macs," in report_csv(report)
    assert {"15.5% macs": 100} == report.json()["limits"]
    assert "limits" not in bare.json()
    assert "at most" not in report_markdown(bare)


def test_failures_of_one_reason_are_one_warning() -> None:
    """With the first steps' names, the number of the others, and of all steps that were skipped."""
    names = [f"train/erk/0.9/seed{seed}" for seed in range(5)]
    alike = [Failure(name, "diverged", f"step `{name}` failed: no number", None, ["a"]) for name in names]
    other = Failure("tune", "failed", "step `tune` failed: odd", None, [])
    named = "`train/erk/0.9/seed0`, `train/erk/0.9/seed1`, `train/erk/0.9/seed2`"

    assert [
        f"steps {named} and 2 more failed: no number; 5 dependent steps skipped",
        "step `tune` failed: odd",
    ] == [*describe_failures([*alike, other], [], [])]


def test_statuses_are_counted() -> None:
    """One word is enough where all are alike; trained networks need none."""
    assert "diverged" == counted(["diverged", "diverged"])
    assert "2 diverged" == counted(["diverged", "trained", "diverged"])
    assert "1 diverged, 2 failed" == counted(["diverged", "failed", "failed"])
    assert "" == counted(["trained", "trained"]) == counted([])


def test_useless_networks_are_marked_and_never_the_best(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    """In the table, in CSV and among the warnings: one line for each method."""
    states = {0: "collapsed", 1: "at chance"}
    one = replace(report, results=[replace(r, status=states[r.seed]) for r in report.results])
    show_report(one, ["accuracy", "frontier"])
    first = next(row for row in rows_of(one) if row.name == "magnitude")

    assert all(text.endswith(", 1 collapsed, 1 at chance") for text in first.texts)
    assert "*" not in capsys.readouterr().out.replace("* best", "").replace("* no cheaper", "")
    assert {"collapsed", "at chance"} <= {line.rpartition(",")[2] for line in report_csv(one).splitlines()}


def test_warnings_count_the_seeds_at_chance(report: Report) -> None:
    """Some of several seeds condemn neither the method nor, of the dense network, the whole comparison."""
    one = report.results[0]

    def warned(method: str, *statuses: str) -> list[str]:
        return [*describe_useless(replace(one, method=method, seed=n, status=s) for n, s in enumerate(statuses))]

    assert [] == warned("snip", "trained", "collapsed")
    assert ["snip at 0.9 is at chance: its networks have not learned"] == warned("snip", "at chance", "at chance")
    assert ["snip at 0.9 is at chance at 1 of 3 seeds: the mean includes networks that have not learned"] == warned(
        "snip", "trained", "at chance", "trained"
    )
    assert [
        "the dense network is at chance: no comparison means anything; train it longer or at another rate"
    ] == warned("dense", "at chance")
    assert [
        "the dense network is at chance at 2 of 3 seeds: its mean is no reference; train it longer or at another rate"
    ] == warned("dense", "at chance", "trained", "at chance")


BRANCH, STAGE = (Finding("branch", (name,), f"branch {name} is disconnected") for name in ("a", "b"))
CUT = Finding("network", ("a",), "the network is disconnected (layer collapse)")


@pytest.mark.parametrize(
    ("findings", "words"),
    [
        ([[], []], []),
        ([[BRANCH], [BRANCH]], ["snip at 0.9: branch a is disconnected"]),
        ([[BRANCH], []], ["snip at 0.9 (1 of 2 networks): branch a is disconnected"]),
        ([[BRANCH], [BRANCH, STAGE]], ["snip at 0.9: worst at 0.9, seed 1: branch a is disconnected and 1 more"]),
        (
            [[BRANCH, STAGE], [BRANCH, STAGE], []],
            ["snip at 0.9 (2 of 3 networks): branch a is disconnected and 1 more"],
        ),
        ([[CUT, BRANCH], [CUT]], ["snip at 0.9: the network is disconnected (layer collapse)"]),
    ],
)
def test_disconnected_networks_are_counted(findings: list[list[Finding]], words: list[str]) -> None:
    """All of a network's parts are compared; `worst` shows where networks differ."""
    networks = [Examined("snip", "0.9", seed, 10 - seed, parts) for seed, parts in enumerate(findings)]

    assert words == [*describe_disconnected(networks, "learned")]
    assert [f"{one}; `method.repair: reconnect` prevents it" for one in words] == [
        *describe_disconnected(networks, "snip")
    ]


def test_a_report_in_which_nothing_was_trained_is_shown(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    """On a terminal, as a page, as CSV and Markdown, in a comparison, sorted by accuracy."""
    bare = replace(lacking(report, "magnitude", 0, 1), emitted=[], verdicts=[], profiles=[], sanity=[])
    for sort in ("", "name", "accuracy"):
        show_report(bare, sort=sort)
    shown = capsys.readouterr().out

    assert "0 prunable weights" not in shown
    assert ["magnitude", "diverged", "diverged"] in [line.split() for line in shown.splitlines()]
    assert "| magnitude | diverged | diverged |" in report_markdown(bare)
    assert len(report.results) + len(report.missing) == len(report_csv(bare).splitlines()) - 1
    assert "</html>" in report_page(bare)
    assert "accuracy" not in plots_of(bare)
    assert [] == frontier(bare, "0.9")


def test_hostile_statuses_are_text(report: Report) -> None:
    """A report may come from elsewhere."""
    odd = lacking(report, "magnitude", 0, 1, status="<script>|`")

    assert "<script>|`" not in report_page(odd)
    assert "<script>|" not in report_markdown(odd)


def test_runs_are_compared_where_both_have_results(report: Report) -> None:
    """By the seeds of both; a cell without any shows its status, also where no run has one."""
    rows = {(row.method, row.budget): row for row in compare_results([report, lacking(report, "magnitude", 1)])}
    first, random = rows["magnitude", "0.9"], rows["random", "0.9"]
    (gain,) = first.gains[1:]

    assert gain is not None
    assert (1, 0.0) == (gain.seeds, gain.mean)
    assert ("", "1 diverged") == first.statuses
    assert ((None, None), (None, None), ("diverged", "diverged")) == (random.accuracies, random.gains, random.statuses)


SEEDS = {0: 62.0, 1: 62.2, 2: 62.1}


def test_a_verdict_names_the_seeds_that_are_left() -> None:
    """Of the method, its shuffle, the baseline and the oracle; differences are those of the seeds that both have."""
    first, shuffled = {0: 66.0, 2: 66.4}, {0: 62.0, 1: 10.0, 2: 62.4}
    verdict = judge_method(
        "0.98",
        Networks(first, first),
        Networks(shuffled, shuffled, {1: "at chance"}),
        {"erk": Networks({0: 90.0, 2: 66.4}, SEEDS)},
        {"irp": Networks({2: 71.0})},
        images=10_000,
        chance=10.0,
        seeds=3,
    )

    assert verdict.words.endswith("(2 of 3 seeds)")
    assert "better than its own layer quotas, shuffled (62.2, 1 of 3 seeds at chance, left out): +4.0" in verdict.words
    assert "erk (78.2, 2 of 3 seeds)" in verdict.words
    assert "irp reaches 71.0, 1 of 3 seeds" in verdict.words


def test_a_verdict_counts_the_seeds_that_are_compared() -> None:
    """Where the reference lacks some of the method's."""
    both = Networks(SEEDS), Networks({2: 50.0, 3: 10.0})
    words = judge_method("0.98", *both, {}, {}, images=10_000, chance=10.0, seeds=3).words

    assert ": +12.1 points over 1 common seed, 95 % interval +10.7 to +13.5" in words


def test_whole_methods_are_judged_as_before() -> None:
    """By the same numbers and words."""
    first, other = Networks({0: 66.5, 1: 66.7, 2: 66.6}), Networks(SEEDS, SEEDS)
    both = [
        judge_method("0.98", first, other, {"erk": other}, {"irp": first}, images=1000, chance=10.0, seeds=seeds)
        for seeds in (0, 3)
    ]

    assert both[0] == both[1]
    assert "seeds" not in both[0].words


def result(method: str, seed: int, accuracy: float) -> Result:
    """A network at 0.9."""
    low, high = accuracy - 1, accuracy + 1
    return Result(
        method, 0.9, seed, 10, 100, 0.9, 10, accuracy, accuracy, "0.9", 10, 10, 1.0, 1.0, "trained", low, high
    )


def test_no_verdict_of_a_method_or_by_one_that_has_no_seed_in_common() -> None:
    """A baseline that failed where the method did not is no baseline; the method itself without results has none."""
    first, other, control = result("own", 0, 66.0), result("erk", 1, 90.0), result("own.shuffle", 1, 62.0)
    judged = {"images": 1000, "chance": 10.0, "seeds": 2}
    (verdict,) = judge_results("own", [first, other], [control], (), (), **judged)  # type: ignore[arg-type]

    assert (None, None) == (verdict.baseline, verdict.shuffled)
    assert "66.0 % (1 of 2 seeds)" == verdict.words
    assert [] == judge_results("own", [other], [control], (), (), **judged)  # type: ignore[arg-type]


def test_a_costlier_method_is_no_baseline() -> None:
    """It is named; one that costs as much, within a twentieth, is compared."""
    results = [result("own", 0, 60.0), result("erk", 0, 62.0), result("six", 0, 70.0), result("search", 0, 66.0)]
    costs = {("own", "0.9"): 1.5, ("erk", "0.9"): 1.0, ("six", "0.9"): 6.0, ("search", "0.9"): 1.55}
    judged = {"images": 1000, "chance": 10.0, "seeds": 1}
    (verdict,) = judge_results("own", results, [], (), (), costs=costs, **judged)  # type: ignore[arg-type]
    (free,) = judge_results("own", results, [], (), (), **judged)  # type: ignore[arg-type]

    assert "search" == verdict.baseline
    assert "not compared, since they cost more: six" in verdict.words
    assert "six" == free.baseline
    assert "cost more" not in free.words


def test_runs_show_the_status_of_their_own_method(
    here: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Next to the means of the others, and never as the best."""
    monkeypatch.setenv("COLUMNS", "200")
    runs = Path(__file__).parents[2] / "fixtures" / "runs"
    shutil.copytree(runs, "runs")
    path = Path("runs/digits-1/report.json")
    whole = Report.of(json.loads(path.read_text(encoding="utf-8")))
    strictest = [one for one in whole.results if one.method == whole.method][-1]
    broken = replace(
        whole,
        results=[one for one in whole.results if (one.method, one.budget) != (whole.method, strictest.budget)],
        missing=[Missing(whole.method, strictest.budget, strictest.sparsity, 0, False, "diverged", "train/x")],
    )
    edit(path, lambda _: broken.json())
    listed = {Path(run["run"]).name: run for run in call(capsys, "runs --json").json["runs"]}

    assert f"{strictest.budget}: diverged" in call(capsys, "runs").out
    assert {strictest.budget: "diverged"} == listed["digits-1"]["statuses"]
    assert strictest.budget not in listed["digits-1"]["accuracy"]
    assert {} == listed["digits-2"]["statuses"]
