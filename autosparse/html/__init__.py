"""Reports as self-contained pages."""

from autosparse.html.page import plots_of, report_page, standalone
from autosparse.html.svg import picture

__all__ = ["picture", "plots_of", "report_page", "standalone"]
