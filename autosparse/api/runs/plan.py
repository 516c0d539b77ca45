"""Plans in Python: the steps of a spec with their status, reason and cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autosparse.api.caller import default_settings
from autosparse.api.runs.prepare import SpecSource, fit_source
from autosparse.api.runs.records import Records
from autosparse.cost.fitted import Fitted, Shared, plan_json
from autosparse.planning.budgets import translations
from autosparse.spec import LoadedSpec
from autosparse.spec.overrides import BudgetOption
from autosparse.store import Store
from autosparse.text import plural
from autosparse.user_code import refuse_while_importing


@dataclass(frozen=True, eq=False, repr=False)
class Plan:
    """Compiled spec: every step with its status, reason and cost; a notebook shows it as a table.

    Attributes:
        spec: Validated spec, with the origin of every value.
        fitted: Plan with its price, fitted to this machine.
        sharing: Cost of its IRPs, shared by the specs that use them; None without IRPs.

    Examples:
        >>> planned = plan({"model": "lenet", "dataset": "digits", "method": "snip", "compare": []}, budget=0.9)
        >>> planned.fits, planned.to_run[:2]
        (True, ['data/digits', 'init/lenet/seed0'])
    """

    spec: LoadedSpec
    fitted: Fitted
    sharing: Shared | None = None

    @property
    def name(self) -> str:
        """Name of the spec: the stem of its file, or `spec`."""
        return self.fitted.plan.name

    @property
    def steps(self) -> Records:
        """Steps in the order in which they can run, as `plan --json` has them: name, status, reason, estimate."""
        return Records(self.json()["steps"])

    @property
    def to_run(self) -> list[str]:
        """Names of the steps that a run would compute; all others are cache hits."""
        return self.fitted.to_run

    @property
    def summary(self) -> dict[str, Any]:
        """Totals: numbers of steps, seconds, peak memory and disk space in bytes, dense trainings."""
        summary: dict[str, Any] = self.json()["summary"]
        return summary

    @property
    def fits(self) -> bool:
        """True if the plan fits `target`; `run` raises FitError otherwise."""
        return self.fitted.problem is None

    @property
    def warnings(self) -> list[str]:
        """Missing data and libraries, ignored files, and the reason why the plan does not fit."""
        warnings: list[str] = self.json()["warnings"]
        return warnings

    def json(self) -> dict[str, Any]:
        """Return the plan as `autosparse plan --json` prints it.

        Returns:
            JSON data with `schema_version`, `steps` and `summary`.
        """
        return plan_json(self.fitted, self.sharing)

    def __repr__(self) -> str:
        run, reused = len(self.to_run), len(self.fitted.statuses) - len(self.to_run)
        return f"Plan({self.name}: {plural(run, 'step')} to run, {reused} reused)"

    def __str__(self) -> str:
        from autosparse.console.format import captured
        from autosparse.console.plan import show_plan

        with captured() as text:
            show_plan(self.fitted, translations(self.fitted.plan), every_step=False, sharing=self.sharing)
        return text.getvalue().rstrip("\n")

    def _repr_html_(self) -> str:
        from autosparse.html.notebook import plan_fragment

        spec = self.fitted.plan.spec
        title = f"plan {self.name}: {spec.model.short_name} on {spec.dataset.short_name}"
        return plan_fragment(self.json(), title)


def plan(
    spec: SpecSource | Plan,
    *,
    budget: BudgetOption | Sequence[BudgetOption] | None = None,
    overrides: Mapping[str, Any] | Sequence[str] | None = None,
) -> Plan:
    """Compile a spec into a plan, without running a step: `autosparse plan` in Python.

    Args:
        spec: Path of a YAML file or name of a bundled spec, YAML text, plain data, a `Spec`, or the result of
            `plan` or `load_spec`. A str with a line break or `: ` is text.
        budget: One or several budgets that replace the spec's, such as 0.99, `100x`, `{"parameters": "120k"}`
            or `{"macs": "30%"}`.
        overrides: Values to replace: path of an option -> value, as in `{"training.epochs": 5}`.

    Returns:
        The plan. Its cache keys are those of the command line; missing data is a warning.

    Raises:
        UsageError: If a file cannot be read, or a saved plan is given.
        SpecError: If the spec is invalid, with every problem.

    Examples:
        >>> planned = plan({"model": "lenet", "dataset": "digits", "method": "snip", "compare": []}, budget=0.9)
        >>> planned
        Plan(spec: 12 steps to run, 0 reused)
        >>> planned.steps[0]["name"], planned.steps[0]["status"]
        ('data/digits', 'run')
    """
    refuse_while_importing("autosparse.plan")
    with default_settings(unless_unused=True):
        source = spec.spec if isinstance(spec, Plan) else spec
        return Plan(*fit_source(source, budget, overrides, Store.default(), lambda text: None))
