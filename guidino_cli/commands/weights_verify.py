"""`guidino weights verify`: strict loading, and comparison of hashes and features with known ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from guidino_cli.commands.weights import (
    COMMAND_HINT,
    EMBEDDED,
    TINY,
    describe_network,
    file_hashes,
    format_features,
    resolve_source,
)
from guidino_cli.errors import WeightsError
from guidino_cli.models.pretrained.catalogue import (
    COCO_IMAGE,
    EMBEDDED_FEATURES,
    EMBEDDED_TOLERANCE,
    TINY_FEATURES,
    KnownWeights,
    identify_weights,
)
from guidino_cli.models.pretrained.hub import replace_hint
from guidino_cli.progress import log_info

if TYPE_CHECKING:
    from guidino_cli.models.pretrained.loading import LoadedNetwork


@replace_hint(COMMAND_HINT)
def run_verify(name: str, *, image: Path | None, offline: bool) -> None:
    """Load weights strictly, print their hashes and features, and compare them with known values.

    Raises:
        WeightsError: They cannot be loaded, or differ from what their name or import record says.
    """
    from guidino_cli.models.backbones.dino import as_backbone
    from guidino_cli.models.pretrained.feature_checks import feature_fingerprint
    from guidino_cli.models.pretrained.loading import load_network
    from guidino_cli.models.pretrained.statistics import format_statistics
    from guidino_cli.models.pretrained.strict_loading import loading_errors

    source = resolve_source(name)
    if source in {EMBEDDED, TINY}:
        _verify_packaged(source)
        return
    named = identify_weights(source)
    if named is not None and named.backbone == "sam2":
        _verify_sam2(source, offline=offline)
        return
    loaded = load_network(source, family=None, offline=offline)
    files = file_hashes(loaded.path)
    print(f"{source}: {describe_network(loaded)}, every tensor placed")
    print(f"images are normalised with {format_statistics((loaded.mean, loaded.std))}")
    print(f"weights SHA-256 {loaded.identity['sha256']}")
    for file, sha256 in files:
        print(f"file SHA-256    {sha256}{f' {file}' if len(files) > 1 else ''}")
    sha256 = files[0][1]
    known = identify_weights(source, file_sha256=sha256)
    token = None if image is None else _class_token(loaded, image)
    with loading_errors(source):
        features = feature_fingerprint(as_backbone(loaded))
    print(f"features {format_features(features)}")
    verdicts = [
        *_check_record(loaded, features),
        *_check_name(loaded, sha256),
        *_check_known(known, token, loaded),
    ]
    for verdict in verdicts or ["no known values to compare with: keep the lines above"]:
        print(verdict)


def _verify_sam2(source: str, *, offline: bool) -> None:
    """Load SAM 2's encoder strictly and print its hash; no features of it are known."""
    from guidino_cli.models import build_backbone

    backbone = build_backbone("sam2", {"weights": source, "adapters": 0}, offline=offline)
    count = sum(parameter.numel() for parameter in backbone.parameters())
    print(f"{source}: SAM 2's encoder, {count:,} parameters, every tensor placed")
    print(f"weights SHA-256 {backbone.identity['sha256']}")
    print("no known values to compare with: keep the lines above")


def _verify_packaged(source: str) -> None:
    """Verify weights that come in a package: their features are known."""
    from guidino_cli.models import build_backbone
    from guidino_cli.models.pretrained.feature_checks import feature_fingerprint, max_feature_difference

    backbone = build_backbone(source, {}, offline=True)
    features = feature_fingerprint(backbone)
    print(f"{source}: {backbone.identity['weights']}, SHA-256 {backbone.identity['sha256']}")
    log_info(f"licence: {backbone.identity['licence']}")
    print(f"features {format_features(features)}")
    gap = max_feature_difference(features, EMBEDDED_FEATURES if source == EMBEDDED else TINY_FEATURES)
    if gap > EMBEDDED_TOLERANCE:
        raise WeightsError(f"{source}: known weights, but their features differ by {gap:.2g} from the known ones")
    print(f"ok: the known file; features differ by {gap:.1g} from the known ones")


def _check_record(loaded: LoadedNetwork, features: list[float]) -> list[str]:
    """Compare an imported folder with its import record."""
    from guidino_cli.models.pretrained.feature_checks import feature_tolerance, max_feature_difference
    from guidino_cli.models.pretrained.saving import read_import_record

    record = read_import_record(loaded.path) if loaded.path.is_dir() else None
    if record is None:
        return []
    if record.weights_sha256 != loaded.identity["sha256"]:
        raise WeightsError(f"{loaded.path}: weights differ from those imported from {record.source}; import them again")
    gap = max_feature_difference(features, record.features)
    if gap > feature_tolerance(loaded):
        raise WeightsError(
            f"{loaded.path}: the imported weights, but their features differ by {gap:.2g} from the recorded ones"
        )
    return [f"ok: as imported from {record.source}; features differ by {gap:.1g}"]


def _check_name(loaded: LoadedNetwork, sha256: str) -> list[str]:
    """Compare a file with its name: Meta's end with the first eight digits of the SHA-256, as torch.hub's do."""
    ending = loaded.path.stem.rpartition("-")[2].lower()
    if loaded.path.suffix != ".pth" or len(ending) != 8 or set(ending) - set("0123456789abcdef"):
        return []
    if not sha256.startswith(ending):
        raise WeightsError(
            f"{loaded.path}: SHA-256 starts with {sha256[:8]}, but its name says {ending}; download it again"
        )
    return [f"ok: SHA-256 matches the file's name ({ending})"]


def _check_known(known: KnownWeights | None, token: list[float] | None, loaded: LoadedNetwork) -> list[str]:
    """Compare the class token with the published one."""
    from guidino_cli.models.pretrained.feature_checks import feature_tolerance, max_feature_difference

    if known is None or not known.class_token:
        return [] if token is None else [f"class token {format_features(token)}; no published value to compare with"]
    if token is None:
        return [f"to compare with {known.name}'s published class token: --image FILE with {COCO_IMAGE}"]
    gap = max_feature_difference(token, known.class_token)
    if gap > feature_tolerance(loaded):
        raise WeightsError(
            f"{loaded.path}: class token {format_features(token)} is not {known.name}'s "
            f"{format_features(list(known.class_token))}; "
            f"other weights, or another image than {COCO_IMAGE}"
        )
    return [f"ok: class token as published for {known.name}; differs by {gap:.1g}"]


def _class_token(loaded: LoadedNetwork, image: Path) -> list[float]:
    from guidino_cli.data.images import read_image
    from guidino_cli.data.preprocess import to_tensor
    from guidino_cli.models.pretrained.feature_checks import compute_class_token

    return compute_class_token(loaded, to_tensor(read_image(image)[0]))
