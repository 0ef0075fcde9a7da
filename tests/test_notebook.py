"""examples/quickstart.ipynb: it holds no outputs, and every cell runs from top to bottom."""

import nbformat
import pytest
from nbclient import NotebookClient
from places import ROOT
from train_runs import one_thread

NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"


def test_the_notebook_has_no_outputs_and_its_imports_work():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        assert not cell.outputs and cell.execution_count is None
        for line in (line for line in cell.source.splitlines() if line.startswith("from training")):
            exec(line, {})


@pytest.mark.long
def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch):
    """Training takes seconds in place of eight minutes. In a checkout the first cell installs nothing."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (parameters,) = (cell for cell in notebook.cells if "MINUTES = 8 " in cell.source)
    parameters.source = parameters.source.replace("MINUTES = 8 ", "MINUTES = 0.01 ").replace(
        'cfg="fast"', f'cfg="fast", outdir={str(tmp_path)!r}'
    )
    for name, value in one_thread(PATH="").items():  # no pip and no git
        monkeypatch.setenv(name, value)
    NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    (run_dir,) = tmp_path.iterdir()
    assert run_dir.name.startswith("00000-twemoji-faces-fast") and (run_dir / "report.html").exists()
    kinds = [set(output.get("data", {})) for cell in notebook.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in kind for kind in kinds) == 4
    shown = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()))
    assert "done: 1 kimg" in shown and "PSNR" in shown
