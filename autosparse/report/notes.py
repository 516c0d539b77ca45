"""Warnings about masks: what was done otherwise than asked, each sentence once with the methods it is about."""

from __future__ import annotations

from autosparse.report.finished import Finished


def describe_notes(finished: Finished) -> list[str]:
    """Return the notes of all masks of the comparison, and what is left out of the dataset."""
    methods: dict[str, list[str]] = {}
    for cell in finished.cells:
        mask = finished.plan.steps[cell.evaluate].inputs.get("mask")
        if mask is None or not finished.has(mask):
            continue
        for note in finished.open(mask).json("result").get("notes", ()):
            methods.setdefault(note, [])
            if cell.method not in methods[note]:
                methods[note].append(cell.method)
    return [*finished.plan.warnings, *(f"{', '.join(names)}: {note}" for note, names in methods.items())]
