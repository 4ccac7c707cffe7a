"""`guidino register`: displacement fields between pairs of images, the warped images, and what they are worth."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from guidino_cli.commands.register_network import (
    IMAGES_FOR_PCA,
    BackboneSource,
    load_backbone,
    load_network_method,
)
from guidino_cli.commands.register_options import check_options, choose_features, choose_limits
from guidino_cli.commands.register_outputs import read_result, write_pair
from guidino_cli.commands.register_pairs import PairFiles, collect_pairs
from guidino_cli.commands.register_report import print_report, write_reports
from guidino_cli.engine.devices import pick_device
from guidino_cli.errors import ConfigError, DataError, PartialError, UserError, as_user_error, to_one_line
from guidino_cli.files import file_sha256
from guidino_cli.options.registration import FeatureKind, RegisterOptions
from guidino_cli.outputs import require_output_folder
from guidino_cli.progress import join_first, log_info, log_warning, pluralize, track
from guidino_cli.registration.convexadam import ConvexAdamSettings
from guidino_cli.registration.extraction import RegistrationFeatures
from guidino_cli.registration.features import MAX_TOKENS, Pca, fit_pca
from guidino_cli.registration.inputs import ReadingRules, read_image_pair
from guidino_cli.registration.method import FieldFinder, make_convexadam, register_pair
from guidino_cli.registration.pca_files import PCA_FILE, read_pca, write_pca

_OF_READING = ("onto", "orientation", "ignore_headers")


def run(fixed: Path, moving: Path | None, options: RegisterOptions) -> None:
    """Register one pair or a table of them.

    Raises:
        ConfigError: Options that do not go together.
        DataError: The table or the only pair cannot be used, or none of the pairs.
        WeightsError: The backbone's weights cannot be loaded.
        PartialError: Some pairs could not be registered; the others are.
    """
    check_options(options)
    kind, window = choose_features(options), choose_limits(options)
    rules = ReadingRules(options.onto is not None, options.ignore_headers, options.orientation, window)
    pairs = collect_pairs(fixed, moving, options)
    _require_output(options, [*([fixed] if moving is None else []), *(path for pair in pairs for path in pair.paths)])
    settings = _settings(options, kind)
    device = pick_device(options.device)
    if options.network is None:
        find = _find_by_convexadam(kind, device, pairs, rules, options, settings)
    else:
        find, window, settings = load_network_method(options.network, device, offline=options.offline)
        settings |= {name: getattr(options, name) for name in _OF_READING}
        rules = replace(rules, window=window)
    single = moving is not None
    folders = {pair.name: options.out if single else options.out / pair.name for pair in pairs}
    results, failed = [], {}
    for pair in track(pairs, total=len(pairs), description="register"):
        try:
            results.append(_register(pair, folders[pair.name], find, rules, settings, options))
        except (UserError, MemoryError) as error:
            if single:
                raise
            known = as_user_error(error)
            failed[pair.name] = to_one_line(str(known or error))
            log_info(f"guidino: {pair.name}: {failed[pair.name]}")
    if not results:
        raise DataError(f"none of {pluralize(len(pairs), 'pair')} could be registered: {next(iter(failed.values()))}")
    report = write_reports(
        options.out, results, failed, settings, pairs=pairs, folders=folders, figures=options.figures
    )
    if options.as_json:
        print(json.dumps(report, indent=2))
    else:
        print_report(report, options.out)
    if failed:
        raise PartialError(
            f"{pluralize(len(failed), 'pair')} of {len(pairs)} could not be registered and "
            f"{'is' if len(failed) == 1 else 'are'} in no mean: {join_first(list(failed))}"
        )


def _register(
    files: PairFiles,
    folder: Path,
    find: FieldFinder,
    rules: ReadingRules,
    settings: dict[str, Any],
    options: RegisterOptions,
) -> dict[str, Any]:
    if options.skip_existing:
        found = read_result(folder, files, settings)
        if found is not None:
            return found
    pair = read_image_pair(files.fixed, files.moving, files.fixed_mask, files.moving_mask, rules)
    for note in pair.notes:
        log_info(f"guidino: {note}")
    done = register_pair(pair, find)
    return write_pair(folder, done, files, settings, window=rules.window, figures=options.figures)


def _require_output(options: RegisterOptions, inputs: Sequence[Path]) -> None:
    require_output_folder(
        options.out,
        [path for path in inputs if path.exists()],
        overwrite=options.overwrite or options.skip_existing,
        hint="add --overwrite, or --skip-existing to go on",
    )


def _settings(options: RegisterOptions, kind: FeatureKind) -> dict[str, Any]:
    """What determines the results, for the report."""
    names = ("grid", "reach", "steps", "smoothness", "onto", "window", "orientation", "ignore_headers")
    settings: dict[str, Any] = {"features": kind} | {name: getattr(options, name) for name in names}
    if kind != "mind":
        settings |= {name: getattr(options, name) for name in ("layer", "px", "pca", "components")}
    return settings


def _find_by_convexadam(
    kind: FeatureKind,
    device: torch.device,
    pairs: Sequence[PairFiles],
    rules: ReadingRules,
    options: RegisterOptions,
    settings: dict[str, Any],
) -> FieldFinder:
    """The method, with what determines it added to the settings."""
    backbone = None
    if kind != "mind":
        source = BackboneSource.of(options)
        backbone = load_backbone(source, device, offline=options.offline)
        settings |= {"backbone": backbone.identity["weights"], "backbone_sha256": backbone.identity["sha256"]}
    extractor = RegistrationFeatures(
        kind,
        device=device,
        backbone=backbone,
        components=options.components,
        px=options.px,
        window=rules.window,
    )
    numbers = ConvexAdamSettings(
        grid=options.grid, reach=options.reach, steps=options.steps, smoothness=options.smoothness
    )
    if backbone is None or options.pca == "pair":
        return make_convexadam(extractor, numbers)
    digest = backbone.identity["sha256"]
    if options.pca == "shared":
        path = options.out / PCA_FILE
        if options.skip_existing and path.is_file():
            # Pairs that are kept were registered with it; one of more pairs would not compare with them.
            pca = read_pca(path, backbone_sha256=digest)
        else:
            pca = _fit_shared(extractor, pairs, rules, options)
            write_pca(path, pca, backbone_sha256=digest)
    else:
        path = Path(options.pca)
        if not path.exists():
            raise ConfigError(f"--pca {options.pca}: expected pair, shared or a file such as OUT/{PCA_FILE}")
        pca = read_pca(path, backbone_sha256=digest)
    settings["pca_sha256"] = file_sha256(path)
    return make_convexadam(extractor.with_pca(pca), numbers)


def _fit_shared(
    extractor: RegistrationFeatures, pairs: Sequence[PairFiles], rules: ReadingRules, options: RegisterOptions
) -> Pca:
    """A PCA of tokens of images of all pairs."""
    count = min(len(pairs), max(1, IMAGES_FOR_PCA // 2))
    chosen = [pairs[number * len(pairs) // count] for number in range(count)]
    limit = max(1, MAX_TOKENS // (2 * count))
    tokens = []
    for files in track(chosen, total=count, description="shared PCA"):
        try:
            pair = read_image_pair(files.fixed, files.moving, None, None, rules)
        except DataError as error:
            log_warning(f"{files.name}: {error}; left out of the PCA")
            continue
        tokens += [extractor.draw(image, limit) for image in (pair.fixed, pair.moving)]
    if not tokens:
        raise DataError(f"none of {pluralize(count, 'pair')} could be read, so no shared PCA can be fitted")
    return fit_pca(torch.cat(tokens), options.components)
