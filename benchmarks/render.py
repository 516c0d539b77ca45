"""The benchmark page: `python benchmarks/render.py` writes `docs/benchmarks.md` and `docs/plots/` from `results/`.

It also fills the table of `docs/how-to/faster.md`.

The plots need the extra `plots`. `python benchmarks/render.py --check` writes nothing: it exits with code 1 if the page
or a plot is older than the results.
"""

from __future__ import annotations

import sys
from pathlib import Path

import plots
from questions import QUESTIONS, Question, faster

DOCS = Path(__file__).parent.parent / "docs"
PAGE, FASTER = DOCS / "benchmarks.md", DOCS / "how-to" / "faster.md"
NOT_RECORDED = "not recorded"
INTRO = """\
# Benchmarks

`python benchmarks/render.py` writes this page from the rows of `benchmarks/results/`. Accuracy is test accuracy in % \
on CIFAR-10 (20,000 images, 5 epochs unless noted), mean ± sd (number of seeds); 0.98 is a sparsity; p values are of \
seeds and test images, with Holm's correction. The VGG has 0.54 M weights, ResNet-20 0.27 M. Machines were idle or \
shared with other work.
"""


def page() -> str:
    """Return the page in Markdown."""
    return "\n".join([INTRO, *(_section(question()) for question in QUESTIONS)])


def pages() -> dict[Path, str]:
    """Return the text of every page that shows results; pages with prose have the table of a question between marks."""
    head, mark, rest = FASTER.read_text(encoding="utf-8").partition("<!-- table: faster -->\n")
    end = rest[rest.index("<!-- end -->") :]
    shown = faster()
    return {PAGE: page(), FASTER: f"{head}{mark}{shown.answer}<br>{_source(shown)}\n\n{_table(shown)}\n{end}"}


def _section(question: Question) -> str:
    head = "".join(f"<br>![{question.title}]({path})" for path in question.plots)
    return f"## {question.title}\n{question.answer}<br>{_source(question)}{head}\n\n{_table(question)}\n"


def _table(question: Question) -> str:
    lines = [question.columns, [_alignment(column) for column in zip(*question.table, strict=True)], *question.table]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _alignment(column: tuple[str, ...]) -> str:
    return "---:" if all(cell[0].isdigit() or cell[0] == "–" for cell in column) else "---"


def _source(question: Question) -> str:
    commands = dict.fromkeys(row["command"] for row in question.sources)
    machines = dict.fromkeys(row["machine"] for row in question.sources)
    texts = (command if command == NOT_RECORDED else f"`{command}`" for command in sorted(commands, key=_is_missing))
    return f"Command: {', '.join(texts)}. Machine: {'; '.join(sorted(machines, key=_is_missing))}."


def _is_missing(text: str) -> bool:
    return text == NOT_RECORDED


def main() -> int:
    """Write the page and its plots, or check them."""
    if sys.argv[1:] == ["--check"]:
        old = [f"docs/plots/{name}.svg" for name in plots.stale()]
        changed = (path for path, text in pages().items() if not path.exists() or path.read_text("utf-8") != text)
        old += [str(path.relative_to(DOCS.parent)) for path in changed]
        for name in old:
            print(f"{name} is older than benchmarks/results; run `python benchmarks/render.py`", file=sys.stderr)
        return int(bool(old))
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
    plots.draw()
    return 0


if __name__ == "__main__":
    sys.exit(main())
