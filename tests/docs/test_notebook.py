"""The notebook of the documentation, from a spec to a prediction with a label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

nbformat: Any = pytest.importorskip("nbformat")
nbclient: Any = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("onnxscript")
pytest.importorskip("pandas")

NOTEBOOK = Path(__file__).parents[2] / "docs" / "examples" / "digits.ipynb"


def outputs_of(cell: Any) -> str:
    """Return all texts that a cell shows."""
    shown = [output.get("text", "") or output.get("data", {}) for output in cell.outputs]
    return "\n".join(text if isinstance(text, str) else "\n".join(map(str, text.values())) for text in shown)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_notebook_runs_to_a_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plan, progress and report as HTML, zeros where the masks are, and the label of a picture."""
    monkeypatch.setenv("AUTOSPARSE_CACHE_DIR", str(tmp_path / "cache"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("print(len(str(plan)), len(str(report)))"))
    client = nbclient.NotebookClient(notebook, timeout=240, resources={"metadata": {"path": tmp_path}})
    client.execute()
    planned, ran, table, model, onnx, label, texts = (cell for cell in notebook.cells[3:] if cell.cell_type == "code")

    assert "steps to run" in outputs_of(planned)
    assert "<table" in outputs_of(planned)
    assert " steps in " in outputs_of(ran)
    assert "<svg" in outputs_of(ran)
    assert "test_accuracy" in outputs_of(table)
    assert "weights are zero" in outputs_of(model)
    assert "model.onnx predict.py" in outputs_of(onnx)
    assert "seven.png  7  " in outputs_of(label)
    assert all(int(length) > 300 for length in outputs_of(texts).split())


def test_the_notebook_holds_no_outputs() -> None:
    """Outputs of one machine are not kept: cells are source alone."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)

    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
