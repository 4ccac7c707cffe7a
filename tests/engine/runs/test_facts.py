"""What is written down of a run."""

import torch

from guidino_cli.engine.runs.folder import RunFolder


def test_the_facts_name_the_backbone_and_the_data_by_their_hashes(run: RunFolder) -> None:
    facts = run.facts()
    assert len(facts["backbone"]["sha256"]) == 64
    assert len(facts["data"]["sha256"]) == 64
    assert facts["packages"]["torch"] == torch.__version__
