"""What a person sees. The only importer of rich."""

from autosparse.console.compare import in_words, show_compared, show_study
from autosparse.console.format import notes, plain, show_table, show_text
from autosparse.console.models import show_bench, show_inspected, show_verified
from autosparse.console.plan import show_chain, show_plan
from autosparse.console.progress import follow
from autosparse.console.report import SECTIONS, show_made, show_report, show_runs

__all__ = [
    "SECTIONS",
    "follow",
    "in_words",
    "notes",
    "plain",
    "show_bench",
    "show_chain",
    "show_compared",
    "show_inspected",
    "show_made",
    "show_plan",
    "show_report",
    "show_runs",
    "show_study",
    "show_table",
    "show_text",
    "show_verified",
]
