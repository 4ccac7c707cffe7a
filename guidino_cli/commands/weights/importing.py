"""Bring a file of weights in: a folder in Hugging Face layout with every tensor placed, or nothing."""

from pathlib import Path

from guidino_cli.commands.weights.words import file_hashes, licence_of, what_it_is
from guidino_cli.errors import ConfigError, WeightsError
from guidino_cli.models.pretrained.catalogue import recognised
from guidino_cli.models.pretrained.finding import weight_files
from guidino_cli.progress import say


def run_import(source: Path, *, out: Path, name: str | None, overwrite: bool) -> None:
    """Convert a file or folder of weights to a folder in Hugging Face layout.

    Raises:
        WeightsError: The source is no weights, or of another architecture.
        ConfigError: The folder is not empty.
    """
    if not source.exists():
        raise WeightsError(f"{source}: no such file or folder")
    if out.resolve() == source.resolve() or out.resolve() in source.resolve().parents:
        raise ConfigError(f"{out}: holds the source itself; choose another -o")
    _require_replaceable(out, overwrite=overwrite)
    from guidino_cli.models.backbones.dino import as_backbone
    from guidino_cli.models.pretrained.checks import feature_fingerprint
    from guidino_cli.models.pretrained.loading import load_network
    from guidino_cli.models.pretrained.storing import Record, store

    loaded = load_network(str(source.resolve()), family=None, offline=True)
    sha256 = file_hashes(source)[0][1]
    known = recognised(name or source.stem, file_sha256=sha256)
    record = Record(
        name=name or (known.name if known else source.stem),
        source=source.name,
        source_sha256=sha256,
        weights_sha256=loaded.identity["sha256"],
        licence=loaded.identity["licence"],
        features=feature_fingerprint(as_backbone(loaded)),
    )
    store(loaded, record, out)
    written = load_network(str(out.resolve()), family=None, offline=True).identity["sha256"]
    if written != record.weights_sha256:
        raise WeightsError(f"{out}: reads back as other weights than were written; the disk may be failing")
    print(f"wrote {out}: {what_it_is(loaded)}, SHA-256 {record.weights_sha256}")
    say(f"licence: {licence_of(record.licence)}")
    say(f"train with them: --set model.backbone.options.weights={out}")


def _require_replaceable(out: Path, *, overwrite: bool) -> None:
    """Refuse a folder that must not go: the new one replaces it as a whole, with all that is in it."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / "config.json").is_file() or not weight_files(out):
        raise ConfigError(f"{out}: holds something else than a model's weights; choose another -o")
    if not overwrite:
        raise ConfigError(f"{out}: is not empty; replace it with --overwrite, or choose another -o")
