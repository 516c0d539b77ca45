"""Emitted models and the speed of a machine on a terminal."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from autosparse.console.format import bar, number_table, plain, results, show_table
from autosparse.cost.bench import Bench
from autosparse.report.schema import Emitted
from autosparse.report.speeds import ERROR, GAIN, SMALLER, images_at_once, sentences, verified
from autosparse.text import listed, number, plural, size


def show_bench(bench: Bench, about: dict[str, Any]) -> None:
    """Show the speed of training next to a standard PyTorch loop, of scoring, and their share of the machine's peak."""
    console = results()
    threads = plural(about["threads"], "thread")
    console.print(plain(f"{about['processor']}, {about['device']}, {threads}, torch {about['torch']}", "bold"))
    peaks = ", ".join(f"{precision} {rate / 1e9:,.0f}" for precision, rate in bench.peaks.items())
    console.print(plain(f"matrix product, GFLOP/s: {peaks}", "dim"))
    titles = ("images a second", "PyTorch loop", "autosparse", "ratio", "GFLOP/s", "share")
    table = number_table(*titles, header_style="bold")
    for item in bench.trained:
        name, rates = f"{item.model} {item.batch} {item.precision}", (_spread(item.plain), _spread(item.rates))
        shares = (f"{item.ratio:.2f}", f"{item.operations / 1e9:,.0f}", f"{100 * item.share:.0f} %")
        table.add_row(*map(plain, (name, *rates, *shares)))
    console.print(table)
    table = number_table(f"scoring {bench.largest}", "weights a second", header_style="bold")
    for name, rate in bench.scored.items():
        table.add_row(plain(name), plain(number(rate)))
    console.print(table)
    rounds = len(bench.trained[0].rates)
    each = f"median (least–most) of {rounds} rounds, interleaved" if rounds > 1 else "one round"
    console.print(plain(f"{each}; share: of that peak", "dim"))
    console.print(plain("a standard PyTorch loop: DataLoader, torchvision transforms, NCHW, float32", "dim"))


def _spread(values: Sequence[float]) -> str:
    middle = f"{statistics.median(values):.0f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.0f}–{max(values):.0f})"


_WIDE = 12  # columns of a bar


def show_verified(emitted: Sequence[Emitted], folder: str, again: str) -> None:
    """Show a row for every emitted model: bytes, speed-up, runtime gain, max abs error after a reload, accuracy.

    `again` is the command that measures unstable speed-ups again.
    """
    if not emitted:
        return
    console = results()
    titles, rows = verified(emitted)
    last = len(titles) - 1
    console.print(plain(f"exported models in {folder}, against the dense network"))
    first = [titles.index(title) for title in (ERROR, SMALLER, GAIN) if title in titles]
    optional = [*first, *(index for index in range(last - 1, 4, -1) if index not in first)]  # then larger batches
    show_table(titles, rows, last, optional=optional, console=console)
    for sentence in sentences(emitted, again):
        console.print(plain(sentence, "dim"))


def show_inspected(description: Mapping[str, Any]) -> None:
    """Show one emitted model: its format, its layers as bars, its provenance."""
    console = results()
    console.print(plain(f"{description['path']}: {description['format']}, {size(description['bytes'])}", "bold"))
    if options := description["options"]:
        console.print(plain("options: " + ", ".join(f"{name} {str(value).lower()}" for name, value in options.items())))
    for name in ("network", "method", "sparsity", "seed", "test_accuracy", "example_accuracy", "training"):
        if description.get(name) is not None:
            console.print(plain(f"{name.replace('_', ' ')}: {description[name]}"))
    if images := description.get("images"):
        mean, std = (", ".join(f"{value:.4g}" for value in images[part]) for part in ("mean", "std"))
        form = " x ".join(map(str, images["size"])) + f" {images['channels'] or ''}"
        console.print(plain(f"images: {form.strip()}, (pixels / 255 - [{mean}]) / [{std}]"))
    if classes := description.get("classes"):
        console.print(plain(f"classes: {listed(classes, 20)}"))
    kept, total = description["kept"], description["total"]
    if total:
        console.print(plain(f"{kept:,} of {total:,} prunable weights are kept, sparsity {1 - kept / total:.4f}"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    rows = [_layer_row(layer) for layer in description["layers"]]
    # Some formats have no known shapes and kernels.
    known = {title for row in rows for title in row}
    titles = [title for title in ("layer", "shape", "kept", "sparsity", "", "computed") if title in known]
    for title in titles:
        right = title in ("kept", "sparsity")
        table.add_column(title, justify="right" if right else "left", overflow="fold", no_wrap=title != "layer")
    for row in rows:
        table.add_row(*(plain(row.get(title, "")) for title in titles))
    if description["layers"]:
        console.print(table)


def _layer_row(layer: Mapping[str, Any]) -> dict[str, str]:
    present = layer["kept"] / max(1, layer["size"])
    ways = ", ".join(f"{way} for {images_at_once(count)}" for count, way in layer.get("computed", {}).items())
    return {
        "layer": layer["name"],
        **({"shape": " × ".join(map(str, layer["shape"]))} if layer["shape"] else {}),
        "kept": f"{layer['kept']:,}",
        "sparsity": f"{1 - present:.4f}",
        "": bar(present, _WIDE),
        **({"computed": ways} if ways else {}),
    }
