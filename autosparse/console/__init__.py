"""What a person sees. The only importer of rich."""

from autosparse.console.bench import show_bench
from autosparse.console.chain import show_chain
from autosparse.console.compare import show_compared
from autosparse.console.emitted import show_inspected, show_verified
from autosparse.console.page import plots_of, report_page, standalone
from autosparse.console.plan import show_plan
from autosparse.console.progress import follow
from autosparse.console.raster import picture
from autosparse.console.screen import notes, plain, results, seconds, shell_word, size
from autosparse.console.study import in_words, show_study
from autosparse.console.views import SECTIONS, show_made, show_report, show_runs, show_table, show_text

__all__ = [
    "SECTIONS", "follow", "in_words", "notes", "picture", "plain", "plots_of", "report_page", "results", "seconds",
    "shell_word", "show_bench", "show_chain", "show_compared", "show_inspected", "show_made", "show_plan",
    "show_report", "show_runs", "show_study", "show_table", "show_text", "show_verified", "size", "standalone",
]  # fmt: skip
