"""Reports in Python: results as records, and the masks and trained networks behind them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from autosparse.api.masks import Masks
from autosparse.api.runs.records import Records
from autosparse.core.torch_compat.random_state import seeded
from autosparse.core.weights import load_state
from autosparse.errors import UsageError
from autosparse.lazy_torch import torch
from autosparse.models import build_model
from autosparse.planning.model import Cell
from autosparse.registry import suggestion
from autosparse.report import cells
from autosparse.report.finished import Finished
from autosparse.report.schema import Report as ReportData
from autosparse.spec import find_budget
from autosparse.spec.overrides import BudgetOption
from autosparse.steps.mask_result import ChannelMaskResult, read_masks
from autosparse.steps.train import read_trained
from autosparse.text import plural


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """Report of a run; a notebook shows it as tables and plots.

    Attributes:
        data: Report as plain frozen data, in the form of `run --json`.
        finished: Plan of the run, and the store with its artifacts.

    Examples:
        >>> from autosparse import run
        >>> spec = {"model": "lenet", "dataset": "digits", "method": "magnitude", "controls": [], "emit": []}
        >>> report = run(spec, budget=0.9, overrides={"training.epochs": 1, "compare": []}, progress=False)
        >>> report.results[0]["kept"], report.masks().kept
        (2115, 2115)
    """

    data: ReportData
    finished: Finished

    def __post_init__(self) -> None:
        object.__setattr__(self, "_folder", Path(self.data.run).absolute())  # before the caller changes directories

    @property
    def folder(self) -> Path:
        """Run folder, with the report and the exported models; an absolute path."""
        folder: Path = vars(self)["_folder"]
        return folder

    @property
    def results(self) -> Records:
        """Trained networks: method, sparsity, seed, kept weights, accuracies in percent, multiply-adds."""
        return Records(asdict(result) for result in self.data.results)

    @property
    def controls(self) -> Records:
        """Ablations of the method, as `results`."""
        return Records(asdict(result) for result in self.data.controls)

    @property
    def emitted(self) -> Records:
        """Exported models: format, path, bytes, latencies in milliseconds, errors."""
        return Records(asdict(model) for model in self.data.emitted)

    @property
    def verdicts(self) -> list[str]:
        """Verdicts on the spec's method, a sentence for each budget."""
        return cells.verdict_sentences(self.data)

    @property
    def warnings(self) -> list[str]:
        """Conditions that limit the results, a sentence for each."""
        return [*self.data.warnings]

    def json(self) -> dict[str, Any]:
        """Return the report as `autosparse run --json` prints it.

        Returns:
            JSON data with `schema_version` and `results`.
        """
        return self.data.json()

    def masks(self, method: str | None = None, budget: BudgetOption | None = None, seed: int | None = None) -> Masks:
        """Return the masks of one network.

        Args:
            method: Method, control or `irp`; by default the spec's method.
            budget: Budget as in the spec, such as 0.95, `parameters=120k` or `macs=30%`; by default the only one.
            seed: Seed; by default the first.

        Returns:
            Masks by parameter name, in model order.

        Raises:
            UsageError: If the run has no such network, or it is dense.
            DamagedArtifact: If the artifact is damaged; the same run rebuilds it.
        """
        cell = self._cell(method, budget, seed)
        if cell.mask is None:
            raise UsageError(f"the network of method `{cell.method}` has no masks", "name a method that prunes")
        result = read_masks(self.finished.open(cell.mask))
        if not isinstance(result, ChannelMaskResult):
            return Masks(result.masks)
        # The run's network is trained: its weights are not scaled again.
        return Masks(result.masks, slicing=replace(result.slices, scales={}), channels=result.groups)

    def model(
        self, method: str | None = None, budget: BudgetOption | None = None, seed: int | None = None
    ) -> torch.nn.Module:
        """Return one trained network, with zeros for pruned weights.

        Args:
            method: Method, control, `irp` or `dense`; by default the spec's method.
            budget: Budget as in the spec, such as 0.95, `parameters=120k` or `macs=30%`; by default the only one.
            seed: Seed; by default the first.

        Returns:
            Network on the CPU, in evaluation mode. It takes images normalized by the dataset's mean and standard
            deviation, float32 `[images, channels, height, width]`, and returns logits `[images, classes]`.

        Raises:
            UsageError: If the run has no such network.
            DamagedArtifact: If the artifact is damaged; the same run rebuilds it.
        """
        cell = self._cell(method, budget, seed)
        plan = self.finished.plan
        structure = plan.steps[plan.steps[cell.train].inputs["init"]].network
        channels, height, width = structure.shape
        with seeded(0):
            network = build_model(structure.name, structure.options, (channels, height, width), structure.classes)
        return load_state(network, read_trained(self.finished.open(cell.train)).state).eval()

    def __repr__(self) -> str:
        networks = plural(len(self.data.results), "network")
        return f"Report({self.data.run or self.data.spec}: {networks}, method {self.data.method})"

    def __str__(self) -> str:
        from autosparse.console.format import captured
        from autosparse.console.report import show_report

        with captured() as text:
            show_report(self.data)
        return text.getvalue().rstrip("\n")

    def _repr_html_(self) -> str:
        from autosparse.html.notebook import report_fragment

        return report_fragment(self.data)

    def _cell(self, method: str | None, budget: BudgetOption | None, seed: int | None) -> Cell:
        known = self.finished.cells
        method = self.data.method if method is None else method
        of_method = _only(known, "method", method, known)
        labels = list(dict.fromkeys(cell.budget for cell in of_method))
        if budget is not None and method != "dense":
            meant = find_budget(self.finished.plan.spec.budget, budget)
            of_method = _only(of_method, "budget", str(budget if meant is None else meant), of_method)
        elif len(labels) > 1:
            raise UsageError(f"method `{method}` has several budgets", f"name one of {', '.join(labels)}")
        return _only(of_method, "seed", of_method[0].seed if seed is None else seed, of_method)[0]


def _only(some: list[Cell], name: str, value: object, of: list[Cell]) -> list[Cell]:
    chosen = [cell for cell in some if getattr(cell, name) == value]
    if not chosen:
        present = [str(known) for known in dict.fromkeys(getattr(cell, name) for cell in of)]
        hint = suggestion(str(value), present) or f"it has {', '.join(present)}"
        raise UsageError(f"the run has no trained network of {name} `{value}`", hint)
    return chosen
