"""The contact sheet of prepared volumes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guidino_cli.data.manifest import Manifest
from guidino_cli.data.volumes.intensities import measure_channel
from guidino_cli.data.volumes.stored import save_array
from guidino_cli.plots import volumes
from guidino_cli.preparation.volumes.contact_sheet import write_volume_contact_sheet
from guidino_cli.types import Case, StoredVolume, VolumeSource

SHAPE = (3, 12, 16)


def prepare(folder: Path, count: int, *, channels: tuple[str, ...] = ("T1",), labelled: bool = True) -> Manifest:
    """A prepared folder of volumes that rise along X; the mask of the first is a block of one column, and so on."""
    cases = []
    for number in range(count):
        values = np.stack(
            [np.arange(16, dtype=np.int16) * np.ones(SHAPE, np.int16) * (1 + c) for c in range(len(channels))]
        )
        save_array(folder / f"{number}.npy", values)
        labels = np.zeros(SHAPE, dtype=np.uint8)
        labels[2, 2:10, : number + 1] = 1
        save_array(folder / f"{number}_labels.npy", labels)
        statistics = tuple(measure_channel(channel) for channel in values)
        path = folder / f"{number}_labels.npy"
        stored = StoredVolume(
            (VolumeSource(folder / f"{number}.nii"),), folder / f"{number}.npy", path if labelled else None, None,
            SHAPE, (7.5, 0.5, 0.5), statistics, "RAS",
        )  # fmt: skip
        share = float((labels > 0).mean()) if labelled else None
        cases.append(
            Case(f"case_{number}", folder / f"{number}.nii", None, "train", None, "", (12, 16), share, volume=stored)
        )
    own = cases[0].volume
    assert own is not None
    return Manifest("set", ["background", "cord"], cases, channels=channels, spacing_mm=(None, 0.5, 0.5),
                    statistics=own.statistics)  # fmt: skip


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What the sheet was drawn of."""
    found: dict[str, object] = {}
    original = volumes.volume_contact_sheet

    def record(tiles, **options):
        found.update(options, tiles=tiles)
        return original(tiles, **options)

    monkeypatch.setattr(volumes, "volume_contact_sheet", record)
    return found


def test_each_case_is_drawn_through_its_mask_in_its_own_greys(tmp_path: Path, drawn: dict) -> None:
    write_volume_contact_sheet(prepare(tmp_path, 3), tmp_path)
    assert Image.open(tmp_path / "contact_sheet.png").size[0] > 720
    assert drawn["heading"] == "set (3 train)\nall, smallest to largest foreground of each part"
    tile = drawn["tiles"][2]
    assert tile.title == "case_2"
    # A block of 8 x 3 of 3 x 12 x 16 voxels.
    assert tile.subtitle == "train, 4.2 % foreground; pixels 0.5 x 0.5 mm, slices 7.5 mm"
    assert tile.view.position == (2, 6, 1)
    assert tile.view.truth.axial.sum() == 24
    # Percentiles 0.5 and 99.5 of 0 to 15 are the ends.
    assert np.allclose(tile.view.image.axial, np.arange(16) / 15)


def test_marked_cases_come_first_and_say_why(tmp_path: Path, drawn: dict) -> None:
    write_volume_contact_sheet(prepare(tmp_path, 30), tmp_path, marks={"case_7": "inverted?"})
    assert len(drawn["tiles"]) == 24
    assert (drawn["tiles"][0].title, drawn["tiles"][0].mark) == ("case_7", "inverted?")
    assert drawn["heading"].endswith(
        "24 of 30 cases, masks to look at first, then smallest to largest foreground of each part"
    )


def test_of_several_channels_the_first_is_drawn_and_named(tmp_path: Path, drawn: dict) -> None:
    write_volume_contact_sheet(prepare(tmp_path, 1, channels=("T2", "ADC")), tmp_path)
    assert drawn["heading"].endswith("; the first of 2 channels, T2")
    assert np.allclose(drawn["tiles"][0].view.image.axial, np.arange(16) / 15)


def test_volumes_without_masks_are_drawn_through_their_middle(tmp_path: Path, drawn: dict) -> None:
    write_volume_contact_sheet(prepare(tmp_path, 1, labelled=False), tmp_path)
    assert drawn["tiles"][0].view.position == (1, 6, 8)
    assert drawn["tiles"][0].subtitle == "train; pixels 0.5 x 0.5 mm, slices 7.5 mm"
