"""The files of the best epoch."""

from safetensors.torch import load_file

from guidino_cli.engine.runs.folder import RunFolder


def test_saved_weights_leave_the_frozen_backbone_out(run: RunFolder) -> None:
    names = set(load_file(run.weights))
    assert not [name for name in names if name.startswith("backbone.")]
    assert {name.split(".")[0] for name in names} == {"segmenter", "guide"}
