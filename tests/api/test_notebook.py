"""The notebook of the examples runs from its first cell to its last."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.slow
def test_the_cells_of_the_notebook_run_in_their_order(tmp_path: Path) -> None:
    cells = json.loads((EXAMPLES / "python.ipynb").read_text(encoding="utf-8"))["cells"]
    code = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    environment = {**os.environ, "TMPDIR": str(tmp_path), "MPLBACKEND": "agg"}
    done = subprocess.run([sys.executable, "-c", code], cwd=EXAMPLES, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "Dice 0." in done.stdout
    assert all(not cell.get("outputs") for cell in cells), "outputs age: clear them before committing"
