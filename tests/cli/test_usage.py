"""Usage errors: settings typed as options or arguments are answered with the right form."""

import re

import pytest


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            "train --epochs 3",
            "--epochs: there is no such option; settings are given as --set train.epochs=3",
        ),
        ("train --epochs=3", "as --set train.epochs=3"),
        ("train -p demo --epoch 3 --resume", "--epoch: there is no such option; .* as --set train.epochs=3"),
        ("train --lr 1e-3", "as --set train.lr=1e-3"),
        ("train --batch-size 8", "as --set train.batch_size=8"),
        ("train --image_size 64", "as --set data.image_size=64"),
        ("train --fold 0", "as --set data.fold=0"),
        ("train --train.epochs 3", "as --set train.epochs=3"),
        ("train --segmenter unet", "as --set model.segmenter.name=unet"),
        ("train --compile", "as --set train.compile=VALUE"),
        ("lora-tune runs/a --rank 4", "as --set model.lora.rank=4"),
        ("predict runs/a images -o masks --mirror false", "as --set predict.mirror=false"),
        ("predict runs/a images -o masks --batch-size 8", "as --set predict.batch_size=8"),
        ("tune-post runs/a --overlap 0", "as --set predict.overlap=0"),
        ("pretrain images --steps 10", "as --set stages.0.steps=10"),
        ("pretrain images --batch-size 8", "as --set train.batch_size=8"),
    ],
)
def test_a_setting_typed_as_an_option_is_answered_with_its_set_form(argv: str, message: str, guidino) -> None:
    _expect_line(guidino(*argv.split()), message)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            "train --set train.epochs 3",
            "--set train.epochs 3: key and value are one word: --set train.epochs=3",
        ),
        ("train -s epochs 3", "-s epochs 3: key and value are one word: --set train.epochs=3"),
        ("lora-tune runs/a --set model.lora.rank 4", "one word: --set model.lora.rank=4"),
        ("predict runs/a images -o masks --set predict.mirror false", "one word: --set predict.mirror=false"),
        ("pretrain images --set stages.0.steps 10", "one word: --set stages.0.steps=10"),
        ("tune-post runs/a --set predict.mirror false", "one word: --set predict.mirror=false"),
    ],
)
def test_a_value_separated_from_its_key_is_answered_with_one_word(argv: str, message: str, guidino) -> None:
    _expect_line(guidino(*argv.split()), message)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("train own-unet DATA", r"own-unet DATA: unexpected; did you mean --preset own-unet --data DATA\?"),
        ("train own-unett", r"did you mean --preset own-unett\?"),
        ("train mine.yaml", r"did you mean --preset mine\.yaml\?"),
        ("train -p demo data/kvasir", r"did you mean --data data/kvasir\?"),
        ("train -p demo -d data/kvasir more", "more: unexpected; see `guidino train --help`"),
        ("lora-tune runs/a DATA", r"DATA: unexpected; did you mean --data DATA\?"),
        ("tune-post runs/a DATA", r"DATA: unexpected; did you mean --data DATA\?"),
        ("pretrain images small", r"small: unexpected; did you mean --preset small\?"),
    ],
)
def test_an_extra_argument_is_answered_with_its_option(argv: str, message: str, guidino) -> None:
    _expect_line(guidino(*argv.split()), message)


def test_a_setting_without_its_section_is_answered_with_the_whole_key(guidino) -> None:
    _expect_line(guidino("train", "-p", "demo", "--set", "epochs=3"), "did you mean 'train.epochs'")


def test_a_misspelt_option_is_answered_with_the_option(guidino) -> None:
    outcome = guidino("train", "--prset", "demo")
    assert outcome.code == 2
    assert "--preset" in outcome.stderr
    assert "--set train" not in outcome.stderr


def test_words_after_a_double_dash_are_arguments(guidino) -> None:
    outcome = guidino("predict", "runs/none", "-o", "masks", "--", "--epochs")
    assert "--set" not in outcome.stderr


def _expect_line(outcome, message: str) -> None:
    """One line on stderr with the message, and exit code 2."""
    assert outcome.code == 2
    assert outcome.stdout == ""
    assert outcome.stderr.count("\n") == 1
    assert re.search(message, outcome.stderr), outcome.stderr


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("predict RUN x.png", "-o/--out is missing: folder for the masks; see `guidino predict --help`"),
        (
            "predict RUN",
            "IMAGES is missing: images or volumes, folders of them, or a prepared DATA folder; see `guidino predict",
        ),
        ("evaluate", "PREDS is missing: folder of predicted masks, or one mask; see `guidino evaluate --help`"),
        ("weights where", "NAME is missing: a name from `guidino weights list`"),
        ("evaluate a b --tolerance abc", "invalid value for '--tolerance'"),
        ("predict RUN x.png -o y --shard", "option '--shard' requires an argument"),
        ("prepare a b", "got unexpected extra argument(s) (b); see `guidino prepare --help`"),
        ("no-such-command", "no such command 'no-such-command'; see `guidino --help`"),
    ],
)
def test_every_usage_error_is_one_line(argv: str, message: str, guidino) -> None:
    outcome = guidino(*argv.split())
    assert outcome.code == 2
    assert outcome.stderr.startswith(f"guidino: {message}")
    assert outcome.stderr.count("\n") == 1


@pytest.mark.parametrize("argv", [[], ["weights"]])
def test_without_a_command_the_help_is_shown(argv: list[str], guidino) -> None:
    outcome = guidino(*argv)
    assert outcome.code == 2
    assert outcome.stderr.startswith("Usage: guidino")
    assert "Commands:" in outcome.stderr
