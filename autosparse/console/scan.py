"""Scans of datasets on a terminal: a table of splits, classes, equal images and broken ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from autosparse.console.format import notes, plain, results, show_table
from autosparse.datasets.decode import SET_SIZE
from autosparse.datasets.scan import Equal, Scan, SplitScan
from autosparse.text import listed, plural

_SHOWN = 20  # broken images and classes
_EVERY = 30.0  # seconds between two lines of progress


@contextmanager
def scanning(name: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that shows the progress of a scan on stderr: a bar on a terminal, else a line now and then."""
    console = notes()
    if quiet or not console.is_terminal:
        last = time.monotonic()

        def line(done: int, total: int) -> None:
            nonlocal last
            if not quiet and time.monotonic() - last > _EVERY:
                last = time.monotonic()
                console.print(plain(f"scanning {name}: {done:,} of {total:,} images"), soft_wrap=True)

        yield line
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(f"scanning {name}", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def show_scan(name: str, scan: Scan) -> None:
    """Show a dataset's splits, classes, equal images, and the first of its broken images."""
    console = results()
    console.print(plain(f"scan of {name}", "bold"))
    columns = ("split", "images", "broken", "smallest", "most common size", "largest", "formats")
    rows = [_row(one, sum(item.split == one.split for item in scan.broken)) for one in scan.splits]
    show_table(columns, rows, 2, optional=(3, 5), console=console, box=None, header_style="dim")
    _classes(scan)
    if scan.differs_in_size:
        console.print(plain(f"warning: images differ in size, so that a run would stop; {SET_SIZE}", "yellow"))
    for one in scan.equal:
        _equal(one)
    for broken in scan.broken[:_SHOWN]:
        console.print(plain(f"broken, {broken.split}: {broken.name}: {broken.reason}", "red"), soft_wrap=True)
    if (more := len(scan.broken) - _SHOWN) > 0:
        text = f"and {plural(more, 'more broken image')}: `--json` lists all"
        console.print(plain(text, "red"))


def _equal(one: Equal) -> None:
    # A leak between splits or a conflict of labels is a warning.
    (first, second), several = one.splits, one.images > 1
    if first == second:
        text = f"{one.images:,} {first} image{'s repeat' if several else ' repeats'} the pixels of another"
    else:
        text = f"{one.images:,} {second} image{'s have' if several else ' has'} the pixels of a {first} image"
    text += f", {one.conflicting:,} with another label" if one.conflicting else ""
    is_serious = first != second or one.conflicting > 0
    pair = " and ".join(one.pairs[0])
    line = f"{'warning: ' * is_serious}{text}; such as {pair}"
    results().print(plain(line, "yellow" if is_serious else "dim"), soft_wrap=True)


def _row(one: SplitScan, broken: int) -> list[str]:
    numbers = [one.split, f"{one.images:,}", f"{broken:,}"]
    formats = listed([mode if len(one.modes) == 1 else f"{mode} {count:,}" for mode, count in one.modes.items()])
    if one.sizes is None:
        return [*numbers, "", "", "", formats]
    smallest, common, largest = (
        f"{width} x {height}" for width, height in (one.sizes.smallest, one.sizes.most_common, one.sizes.largest)
    )
    share = f" ({one.sizes.images:,})" if one.sizes.different > 1 else ""
    return [*numbers, smallest, f"{common}{share}", largest, formats]


def _classes(scan: Scan) -> None:
    # Images of every class in each split, of large sets the smallest and the largest classes alone.
    console = results()
    names = [*scan.splits[0].classes] if scan.splits else []
    if len(names) <= _SHOWN:
        rows = [[name, *(f"{one.classes[name]:,}" for one in scan.splits)] for name in names]
        titles = ("class", *(one.split for one in scan.splits))
        show_table(titles, rows, len(scan.splits), console=console, box=None, header_style="dim")
    for one in scan.splits:
        ordered = sorted(one.classes.items(), key=lambda item: item[1])
        if len(names) > _SHOWN:
            (least, few), (most, many) = ordered[0], ordered[-1]
            console.print(
                plain(f"{one.split}: {len(names):,} classes of {few:,} ({least}) to {many:,} ({most}) images")
            )
        if empty := [name for name, count in ordered if not count]:
            text = f"warning: no {one.split} images of class{'es' * (len(empty) > 1)} {listed(empty)}"
            console.print(plain(text, "yellow"), soft_wrap=True)
        if one.outside:
            images = f"image{'s have' if one.outside > 1 else ' has'}"
            text = f"warning: {one.outside:,} {one.split} {images} a label outside the classes"
            console.print(plain(text, "yellow"), soft_wrap=True)
