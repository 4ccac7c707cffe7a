"""Choose post-processing on the validation cases of a run, and say by how much it helps."""

from collections.abc import Sequence
from pathlib import Path

from guidino_cli.data.images import read_image, read_label_map
from guidino_cli.data.manifest import load_manifest
from guidino_cli.engine.devices import pick_device
from guidino_cli.engine.prediction.members import Loaded, load_members
from guidino_cli.engine.prediction.post_choice import CANDIDATES, Choice, Trials, save_choices
from guidino_cli.engine.prediction.predictor import Picture
from guidino_cli.engine.run_folder import RunFolder
from guidino_cli.errors import DataError
from guidino_cli.progress import say, track
from guidino_cli.types import Case

_ENOUGH = 10
"""With fewer cases the test cannot speak, whatever they say."""


def run(
    run_path: Path,
    *,
    data: Path | None = None,
    overrides: tuple[str, ...] = (),
    device: str | None = None,
    offline: bool = False,
) -> None:
    """Write RUN/post.json and print what was chosen."""
    config = RunFolder(run_path).config()
    root = data or (Path(config.data.root) if config.data.root else None)
    if root is None:
        raise DataError(f"{run_path}: names no data folder; give it with --data")
    manifest = load_manifest(root)
    cases = [case for case in manifest.select("val", config.data.fold) if case.mask is not None]
    if not cases:
        raise DataError(f"{root}: no labelled validation cases; prepare with a validation split")
    loaded = load_members([run_path], overrides=overrides, offline=offline, device=pick_device(device))
    if manifest.classes != loaded.classes:
        raise DataError(
            f"{root}: has {', '.join(manifest.classes)}, but the run was trained for {', '.join(loaded.classes)}; "
            "give --data with the same classes"
        )
    choices = _choices(loaded, cases)
    if len(cases) < _ENOUGH:
        say(f"only {len(cases)} validation cases: too few to tell help from chance")
    window = loaded.predictor.members[0].window
    evidence = {"validation": str(root), "cases": len(cases), "mirror": window.mirror, "overlap": window.overlap}
    path = save_choices(run_path, choices, evidence=evidence)
    for name, choice in choices.items():
        print(_line(name, choice))
    print(f"written to {path}; used by: guidino predict {run_path} IMAGES -o MASKS --post auto")


def _choices(loaded: Loaded, cases: Sequence[Case]) -> dict[str, Choice]:
    trials = {name: Trials() for name in loaded.classes[1:]}
    for case in track(cases, total=len(cases), description="tune-post"):
        if case.mask is None:
            continue
        labels = loaded.predictor.segment([Picture(*read_image(case.image))])[0].labels
        truth = read_label_map(case.mask)
        for index, trial in enumerate(trials.values(), start=1):
            trial.add(labels == index, truth == index)
    return {name: trial.choose() for name, trial in trials.items()}


def _line(name: str, choice: Choice) -> str:
    tried = f"of {len(CANDIDATES)} tried, p {choice.p:.2g}, {choice.cases} cases"
    gain = f"Dice {choice.before:.4f} -> {choice.best_after:.4f}"
    if str(choice.rule) != "none":
        return f"{name}: {choice.rule} ({gain}, best {tried})"
    return f"{name}: none (best {tried}: {choice.best}, {gain}, not beyond chance)"
