"""Where a report says its masks come from."""

import json
from pathlib import Path

from guidino_cli.evaluation.report.provenance import find_provenance


def test_a_page_names_the_run_and_its_weights_and_the_record_stays_whole(tmp_path: Path) -> None:
    run = {"run": "runs/polyps", "weights": "61fb9daf1e0832be" * 4, "backbone": {"mean": [0.485, 0.456, 0.406]}}
    (tmp_path / "predictions.json").write_text(json.dumps({"runs": [run]}))
    found = find_provenance(tmp_path, "truth/")
    assert found.runs == [run]
    assert found.lines()[1] == "run: runs/polyps (weights 61fb9daf1e08)"


def test_masks_of_other_programs_name_no_run(tmp_path: Path) -> None:
    assert [line.split(":")[0] for line in find_provenance(tmp_path, "truth/").lines()] == [
        "predictions",
        "truth",
        "made",
    ]
