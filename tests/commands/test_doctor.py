"""`guidino doctor`: table, JSON, order of the output and exit codes."""

import json
import subprocess
import sys

import pytest

from guidino_cli.errors import WeightsError


def test_the_table_fits_80_columns_and_ends_with_a_verdict(guidino, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    outcome = guidino("doctor", "--no-self-test")
    assert outcome.code == 0, outcome.stderr
    lines = outcome.stdout.splitlines()
    assert lines[-1] == "guidino works here"
    assert max(map(len, lines)) <= 80
    names = [line.split("  ")[0].strip() for line in lines]
    assert [name for name in ("guidino", "packages", "weights", "torch", "GPU") if name not in names] == []
    assert names.index("weights cache") < names.index("torch")


def test_json_is_one_object_with_all_facts(guidino) -> None:
    outcome = guidino("doctor", "--json", "--no-self-test")
    facts = json.loads(outcome.stdout)
    assert facts["error"] is None
    assert facts["system"]["packages"]["torch"]
    assert set(facts["extras"]) == {"embedded", "export", "dicom", "itk", "blosc2", "monai", "openvino", "smp", "medpy"}
    assert facts["places"]["temporary"]["writable"] is True
    assert "dinov3-vits16" in facts["weights"]
    assert facts["torch"]["threads"] >= 1


def test_facts_without_torch_are_printed_before_torch_is_imported() -> None:
    """A torch that cannot be imported: the table comes first, the error after it."""
    code = "import sys; sys.modules['torch'] = None; from guidino_cli.cli import main; main()"
    line = [sys.executable, "-c", code.replace("main()", "sys.argv = ['guidino', 'doctor']; main()")]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 1
    assert "weights cache" in done.stdout
    assert "guidino works here" not in done.stdout


def test_a_missing_package_exits_with_5(guidino, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guidino_cli.commands.doctor.requires", lambda _: ["numpy>=2", "no-such-package>=1; x"])
    outcome = guidino("doctor")
    assert outcome.code == 5
    assert "pip install no-such-package" in outcome.stderr


def test_a_failed_self_test_exits_with_its_own_code(guidino, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise WeightsError("no weights")

    monkeypatch.setattr("guidino_cli.commands.self_test.self_test", fails)
    outcome = guidino("doctor", "--json")
    assert outcome.code == 4
    assert json.loads(outcome.stdout)["error"] == "the self-test failed: no weights"


def test_the_self_test_runs_training_prediction_and_evaluation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from guidino_cli.commands import train
    from guidino_cli.commands.self_test import self_test

    for name in ("draw_curve", "draw_validation_grid"):
        monkeypatch.setattr(train, name, lambda *_, **__: None)
    done = self_test()
    assert min(done.train, done.predict, done.evaluate) > 0
    assert capsys.readouterr() == ("", "")
