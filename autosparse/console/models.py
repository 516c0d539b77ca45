"""Emitted models on a terminal: a table against the dense network, and one model layer by layer."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from autosparse.console.format import plain, results
from autosparse.report import Emitted
from autosparse.report.tables import images_at_once, verified
from autosparse.text import size

_WIDE = 12  # of a bar
_FASTER = 1.1  # times as fast: less is what measuring again gives


def show_verified(emitted: Sequence[Emitted], place: str) -> None:
    """A row for every emitted model: bytes, latency, what differs after a reload, accuracy."""
    if not emitted:
        return
    console = results()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    titles, rows = verified(emitted)
    for index, title in enumerate(titles):
        table.add_column(title, justify="left" if index == 0 else "right", overflow="fold", no_wrap=console.width >= 80)
    for row in rows:
        table.add_row(*map(plain, row))
    console.print()
    console.print(plain(f"emitted in {place}; times smaller and faster than the dense network"))
    console.print(table)
    for told in _in_words(emitted):
        console.print(plain(told, "dim"))


def _in_words(emitted: Sequence[Emitted]) -> Iterator[str]:
    dense: dict[str, list[float]] = {}
    for model in emitted:
        for count, (_, other) in model.batch_latencies_ms.items():
            dense.setdefault(count, []).append(other)
    if not dense:  # reports written before they were measured
        return
    latencies = [f"{statistics.median(found):.3g} ms for {images_at_once(count)}" for count, found in dense.items()]
    sizes = [size(max(model.dense_bytes for model in emitted if model.dense_bytes))]
    yield f"the dense network: {', '.join([*sizes, *latencies])}"
    reasons = {model.format: model.without_gain for model in emitted if model.without_gain and not _gains(model)}
    for format, why in reasons.items():
        yield f"{format} is no faster: {why}"


def _gains(model: Emitted) -> bool:
    return any(other / own >= _FASTER for own, other in model.batch_latencies_ms.values())


def show_inspected(found: Mapping[str, Any]) -> None:
    """One emitted model: what it is, its layers as bars, where it comes from."""
    console = results()
    console.print(plain(f"{found['path']}: {found['format']}, {size(found['bytes'])}", "bold"))
    for name in ("network", "method", "sparsity", "seed", "test_accuracy", "training"):
        if found.get(name) is not None:
            console.print(plain(f"{name.replace('_', ' ')}: {found[name]}"))
    if images := found.get("images"):
        mean, spread = (", ".join(f"{value:.4g}" for value in images[part]) for part in ("mean", "spread"))
        console.print(plain(f"images: (pixels / 255 - [{mean}]) / [{spread}]"))
    kept, total = found["kept"], found["total"]
    if total:
        console.print(plain(f"{kept:,} of {total:,} prunable weights are kept, sparsity {1 - kept / total:.4f}"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    rows = [_layer_row(layer) for layer in found["layers"]]
    # Shapes and ways of computing are not known of every format.
    titles = [
        title for title in ("layer", "shape", "kept", "sparsity", "", "computed") if any(title in r for r in rows)
    ]
    for title in titles:
        right = title in ("kept", "sparsity")
        table.add_column(title, justify="right" if right else "left", overflow="fold", no_wrap=title != "layer")
    for row in rows:
        table.add_row(*(plain(row.get(title, "")) for title in titles))
    if found["layers"]:
        console.print(table)


def _layer_row(layer: Mapping[str, Any]) -> dict[str, str]:
    present = layer["kept"] / max(1, layer["size"])
    ways = ", ".join(f"{way} for {images_at_once(count)}" for count, way in layer.get("computed", {}).items())
    return {
        "layer": layer["name"],
        **({"shape": " × ".join(map(str, layer["shape"]))} if layer["shape"] else {}),
        "kept": f"{layer['kept']:,}",
        "sparsity": f"{1 - present:.4f}",
        "": "█" * round(_WIDE * present) + "░" * (_WIDE - round(_WIDE * present)),
        **({"computed": ways} if ways else {}),
    }
