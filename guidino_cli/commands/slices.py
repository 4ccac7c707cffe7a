"""`guidino slices`: cut CT and MR volumes into 8-bit slices for pretraining."""

from pathlib import Path

from guidino_cli.data.volumes import SliceSettings
from guidino_cli.errors import PartialError
from guidino_cli.outputs import require_writable
from guidino_cli.preparation.slices import find_volumes, slice_volumes, start_folder
from guidino_cli.progress import log_info, pluralize, track


def run(folder: Path, *, out: Path, settings: SliceSettings, shard: tuple[int, int]) -> None:
    """Write the slices of all volumes of a shard; finished volumes are skipped.

    Raises:
        PartialError: Some volumes could not be read; they are listed.
    """
    volumes = find_volumes(folder, shard=shard)
    require_writable(out)
    start_folder(out, settings)
    written, done, failed = 0, 0, []
    for item in track(slice_volumes(folder, volumes, out, settings), total=len(volumes), description="volumes"):
        if item.error is not None:
            failed.append(item.volume)
            log_info(f"guidino: {item.error}")
        elif item.slices is None:
            done += 1
        else:
            written += item.slices
    kept = f", {done} were done before" if done else ""
    print(f"{pluralize(written, 'slice')} of {pluralize(len(volumes) - done - len(failed), 'volume')} in {out}{kept}")
    print(f"next: guidino pretrain {out} -o BACKBONE --set data.light=window")
    if failed:
        raise PartialError(
            f"{len(failed)} of {pluralize(len(volumes), 'volume')} could not be read: {', '.join(failed[:5])}"
        )
