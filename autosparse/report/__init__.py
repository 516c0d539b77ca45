"""What happened, as plain data, and the folders that keep it."""

from autosparse.report.build import (
    Emitted,
    MaskCost,
    Report,
    Result,
    build_report,
    can_report,
    copy_emitted,
    failed_emissions,
)
from autosparse.report.cells import (
    Point,
    Row,
    best_of,
    columns_of,
    frontier,
    mean_of,
    own_first,
    ranked,
    rows_of,
    spread_of,
)
from autosparse.report.compare import Compared, Gain, Setting, compare_results, compare_settings, holm, leaves
from autosparse.report.failures import Failure, Missing, counted
from autosparse.report.finished import Finished
from autosparse.report.folder import (
    LOG,
    Reached,
    Run,
    all_runs,
    find_run,
    history,
    open_folder,
    remove_folder,
    save_metrics,
    save_report,
    tag_run,
    tags_of,
)
from autosparse.report.layers import LEAST, LayerShare, Profile
from autosparse.report.sanity import Checked, Sanity, signed
from autosparse.report.scorer import copy_scorer
from autosparse.report.study import Interval, Level, difference, foretold, interval, study_json
from autosparse.report.tables import report_csv, report_markdown
from autosparse.report.timeline import Made
from autosparse.report.verdict import Verdict, judge_method

__all__ = [
    "LEAST", "LOG",
    "Checked",
    "Compared",
    "Emitted",
    "Failure",
    "Finished",
    "Gain",
    "Interval",
    "LayerShare",
    "Level",
    "Made",
    "MaskCost",
    "Missing",
    "Point",
    "Profile",
    "Reached", "Report",
    "Result",
    "Row",
    "Run",
    "Sanity",
    "Setting",
    "Verdict",
    "all_runs",
    "best_of",
    "build_report",
    "can_report",
    "columns_of",
    "compare_results",
    "compare_settings",
    "copy_emitted",
    "copy_scorer",
    "counted",
    "difference",
    "failed_emissions",
    "find_run",
    "foretold",
    "frontier",
    "history", "holm",
    "interval",
    "judge_method", "leaves",
    "mean_of",
    "open_folder",
    "own_first",
    "ranked",
    "remove_folder",
    "report_csv",
    "report_markdown",
    "rows_of",
    "save_metrics", "save_report",
    "signed",
    "spread_of",
    "study_json", "tag_run", "tags_of",
]  # fmt: skip
