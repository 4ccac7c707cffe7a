"""`guidino evaluate` on all file formats and on damaged files."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

MASK = np.zeros((20, 24), dtype=np.uint8)
MASK[4:12, 5:15] = 1
OTHER = np.zeros_like(MASK)
OTHER[12:19, 0:7] = 1


Run = Callable[..., int]
Rows = Callable[[Path], dict[str, dict[str, str]]]


def rgb(mask: np.ndarray, colour: tuple[int, int, int]) -> Image.Image:
    return Image.fromarray(mask[..., None] * np.array(colour, dtype=np.uint8))


def palette(mask: np.ndarray) -> Image.Image:
    image = Image.fromarray(mask, "P")
    image.putpalette([0, 0, 0, 128, 0, 0])
    return image


def rgba(mask: np.ndarray) -> Image.Image:
    channels = [np.zeros_like(mask)] * 3 + [mask * 255]
    return Image.fromarray(np.stack(channels, axis=-1))


FORMATS: dict[str, tuple[str, Callable[[np.ndarray, Path], object]]] = {
    "0/1 PNG": (".png", lambda mask, path: Image.fromarray(mask).save(path)),
    "0/255 PNG": (".png", lambda mask, path: Image.fromarray(mask * 255).save(path)),
    "1-bit PNG": (".png", lambda mask, path: Image.fromarray(mask > 0).save(path)),
    "16-bit PNG": (".png", lambda mask, path: Image.fromarray(mask.astype(np.uint16) * 65535).save(path)),
    "palette PNG": (".png", lambda mask, path: palette(mask).save(path)),
    "white RGB PNG": (".png", lambda mask, path: rgb(mask, (255, 255, 255)).save(path)),
    "red RGB PNG": (".png", lambda mask, path: rgb(mask, (255, 0, 0)).save(path)),
    "alpha PNG": (".png", lambda mask, path: rgba(mask).save(path)),
    "JPEG": (".jpg", lambda mask, path: Image.fromarray(mask * 255).save(path, quality=75)),
    "RGB JPEG": (".jpeg", lambda mask, path: rgb(mask, (255, 255, 255)).save(path, quality=95)),
    "BMP": (".bmp", lambda mask, path: Image.fromarray(mask * 255).save(path)),
    "GIF": (".gif", lambda mask, path: Image.fromarray(mask * 255).save(path)),
    "TIFF": (".tif", lambda mask, path: Image.fromarray(mask * 255).save(path)),
    "16-bit TIFF": (".tiff", lambda mask, path: Image.fromarray(mask.astype(np.uint16)).save(path)),
    "float TIFF": (".tif", lambda mask, path: Image.fromarray(mask.astype(np.float32)).save(path)),
    "bool NPY": (".npy", lambda mask, path: np.save(path, mask > 0)),
    "int64 NPY": (".npy", lambda mask, path: np.save(path, mask.astype(np.int64))),
    "NPZ": (".npz", lambda mask, path: np.savez(path, mask)),
}


def write(place: Path, name: str, masks: dict[str, np.ndarray]) -> Path:
    place.mkdir(exist_ok=True)
    ending, save = FORMATS[name]
    for case, mask in masks.items():
        save(mask, place / f"{case}{ending}")
    return place


@pytest.fixture
def rows(read_rows: Callable[[Path], list[dict[str, str]]]) -> Rows:
    """The rows of a report by case."""
    return lambda report: {row["case"]: row for row in read_rows(report / "per_case.csv")}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_metrics(tmp_path: Path, name: str, run: Run, rows: Rows) -> None:
    """Against a 0/1 PNG on the other side, both ways round."""
    plain = write(tmp_path / "plain", "0/1 PNG", {"a": MASK, "b": OTHER})
    masks = write(tmp_path / "masks", name, {"a": np.roll(MASK, 2, axis=0), "b": OTHER})
    for order in ((masks, plain), (plain, masks)):
        assert run("evaluate", *order, "-o", tmp_path / "report", "--overwrite") == 0
        found = rows(tmp_path / "report")
        assert (float(found["a"]["dice"]), float(found["a"]["hd95"])) == (0.75, 2.0)
        assert float(found["b"]["dice"]) == 1.0


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n" + bytes(30), b"not an image at all" * 9])
def test_a_damaged_prediction_fails_without_others(tmp_path: Path, content: bytes, run: Run, rows: Rows) -> None:
    truth = write(tmp_path / "truth", "0/1 PNG", {"a": MASK, "b": OTHER})
    masks = write(tmp_path / "masks", "0/1 PNG", {"a": MASK, "b": OTHER})
    (masks / "b.png").write_bytes(content)
    assert run("evaluate", masks, truth, "-o", tmp_path / "report") == 6
    found = rows(tmp_path / "report")
    assert [found[name]["status"] for name in "ab"] == ["ok", "failed"]
    assert "b.png" in found["b"]["note"]


def test_a_prediction_truncated_at_any_byte_is_a_failed_case(tmp_path: Path, run: Run) -> None:
    truth = write(tmp_path / "truth", "0/1 PNG", {"a": MASK, "b": OTHER})
    masks = write(tmp_path / "masks", "0/1 PNG", {"a": MASK, "b": OTHER})
    whole = (masks / "b.png").read_bytes()
    for length in range(0, len(whole) - 24, 7):
        (masks / "b.png").write_bytes(whole[:length])
        assert run("evaluate", masks, truth, "-o", tmp_path / "report", "--overwrite") == 6


def test_a_damaged_truth_is_a_failed_case_at_the_distance_of_the_diagonal(tmp_path: Path, run: Run) -> None:
    truth = write(tmp_path / "truth", "0/1 PNG", {"a": MASK, "b": OTHER})
    masks = write(tmp_path / "masks", "0/1 PNG", {"a": MASK, "b": OTHER})
    (truth / "b.png").write_bytes(b"")
    assert run("evaluate", masks, truth, "-o", tmp_path / "report") == 6
    summary = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))["summary"]
    metrics = {line["metric"]: (line["mean"], line["used"], line["total"]) for line in summary}
    diagonal = (20**2 + 24**2) ** 0.5
    assert metrics == {"iou": (0.5, 2, 2), "dice": (0.5, 2, 2), "hd95": (pytest.approx(diagonal / 2), 2, 2)}


def test_no_readable_truth_is_an_error(tmp_path: Path, run: Run) -> None:
    truth = write(tmp_path / "truth", "0/1 PNG", {"a": MASK})
    masks = write(tmp_path / "masks", "0/1 PNG", {"a": MASK})
    (truth / "a.png").write_bytes(b"")
    assert run("evaluate", masks, truth) == 3


def test_a_class_that_only_predictions_have_scores_zero(tmp_path: Path, run: Run) -> None:
    truth = write(tmp_path / "truth", "0/1 PNG", {"a": MASK + 2 * OTHER})
    masks = write(tmp_path / "masks", "0/1 PNG", {"a": MASK + 7 * OTHER})
    assert run("evaluate", masks, truth, "-o", tmp_path / "report") == 0
    content = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    dice = {row["target"]: row["mean"] for row in content["summary"] if row["metric"] == "dice"}
    assert dice["class_1"] == 1
    assert dice["class_7"] == 0


def test_a_thousand_empty_masks_are_an_error_after_the_report(tmp_path: Path, run: Run) -> None:
    truth = write(tmp_path / "truth", "0/1 PNG", {f"{index:04}": MASK * 0 for index in range(1000)})
    assert run("evaluate", truth, truth, "-o", tmp_path / "report", "--workers", "1") == 3
    content = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert content["counts"]["both_empty"] == 1000
    assert content["absent_targets"] == ["foreground"]


def test_a_truncated_volume_fails_without_others(tmp_path: Path, run: Run, rows: Rows) -> None:
    volume = np.zeros((8, 9, 10), dtype=np.uint8)
    volume[2:5, 3:6, 4:8] = 1
    for side in ("truth", "masks"):
        (tmp_path / side).mkdir()
        for case in "ab":
            nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / side / f"{case}.nii.gz")
    cut = tmp_path / "masks" / "b.nii.gz"
    cut.write_bytes(cut.read_bytes()[:60])
    assert run("evaluate", tmp_path / "masks", tmp_path / "truth", "-o", tmp_path / "report") == 6
    assert rows(tmp_path / "report")["b"]["status"] == "failed"


def test_images_and_volumes_in_one_folder_are_an_error(tmp_path: Path, run: Run) -> None:
    """Distances in px and in mm have no mean."""
    truth = write(tmp_path / "truth", "0/1 PNG", {"a": MASK})
    nibabel.save(nibabel.Nifti1Image(MASK[..., None].repeat(3, axis=2), np.eye(4)), truth / "b.nii.gz")
    assert run("evaluate", truth, truth) == 3


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_every_data_type_of_a_volume_gives_the_same_metrics(
    tmp_path: Path, run: Run, rows: Rows, kind: type, ending: str
) -> None:
    volume = np.zeros((8, 9, 10))
    volume[2:6, 3:6, 4:8] = 1
    for side, shift, stored in (("truth", 0, np.uint8), ("masks", 2, kind)):
        (tmp_path / side).mkdir()
        image = nibabel.Nifti1Image(np.roll(volume, shift, axis=0).astype(stored), np.diag([1.5, 1, 1, 1]))
        nibabel.save(image, tmp_path / side / f"a{ending if side == 'masks' else '.nii.gz'}")
    assert run("evaluate", tmp_path / "masks", tmp_path / "truth", "-o", tmp_path / "report") == 0
    found = rows(tmp_path / "report")["a"]
    assert (float(found["dice"]), float(found["hd95"])) == (0.5, 3.0)


@pytest.mark.parametrize(("true", "message"), [("PNG", ".jpg"), ("TIFF", ".png"), ("BMP", ".tif")])
def test_an_image_with_the_wrong_extension_is_read_by_its_content(
    tmp_path: Path, run: Run, rows: Rows, true: str, message: str
) -> None:
    truth = write(tmp_path / "truth", "0/1 PNG", {"a": MASK})
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.roll(MASK, 2, axis=0) * 255).save(tmp_path / "masks" / f"a{message}", format=true)
    assert run("evaluate", tmp_path / "masks", truth, "-o", tmp_path / "report") == 0
    assert float(rows(tmp_path / "report")["a"]["dice"]) == 0.75


def test_a_jpeg_named_png_needs_a_threshold(
    tmp_path: Path, run: Run, rows: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = write(tmp_path / "truth", "0/1 PNG", {"a": MASK})
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.roll(MASK, 2, axis=0) * 255).save(tmp_path / "masks" / "a.png", format="JPEG")
    assert run("evaluate", tmp_path / "masks", truth) == 3
    assert "--pred-threshold" in capsys.readouterr().err
    arguments = ("-o", tmp_path / "report", "--pred-threshold", "127")
    assert run("evaluate", tmp_path / "masks", truth, *arguments) == 0
    assert float(rows(tmp_path / "report")["a"]["dice"]) == 0.75


@pytest.mark.parametrize("ending", [".png", ".npy", ".npz", ".nii", ".nii.gz"])
def test_a_file_of_another_kind_fails_and_is_named(tmp_path: Path, run: Run, rows: Rows, ending: str) -> None:
    truth = write(tmp_path / "truth", "0/1 PNG", {"a": MASK, "b": OTHER})
    masks = write(tmp_path / "masks", "0/1 PNG", {"a": MASK})
    for content in (b"", b"PK\x03\x04 not really", b"\x1f\x8b\x08" + bytes(20), b"\x93NUMPY\x01\x00"):
        (masks / f"b{ending}").write_bytes(content)
        assert run("evaluate", masks, truth, "-o", tmp_path / "report", "--overwrite") == 6
        found = rows(tmp_path / "report")
        assert [found[name]["status"] for name in "ab"] == ["ok", "failed"]
        assert f"b{ending}" in found["b"]["note"]


def soft(mask: np.ndarray) -> np.ndarray:
    """A mask of 0 and 255 with a rim of grey pixels around it, as resized or compressed masks have."""
    rim = np.zeros(mask.shape, dtype=np.uint8)
    rows, columns = np.nonzero(mask)
    top, bottom, left, right = rows.min() - 1, rows.max() + 2, columns.min() - 1, columns.max() + 2
    rim[top:bottom, left:right] = np.linspace(5, 120, (bottom - top) * (right - left)).reshape(bottom - top, -1)
    return np.where(mask > 0, 255, rim).astype(np.uint8)


@pytest.mark.parametrize("sides", [("truth",), ("masks",), ("truth", "masks")])
def test_the_command_that_a_refusal_of_soft_edges_prints_works(
    tmp_path: Path, run: Run, rows: Rows, capsys: pytest.CaptureFixture[str], sides: tuple[str, ...]
) -> None:
    """Grey rims are cut at 127 on the side that has them; --binary would count them as foreground."""
    for side in ("truth", "my masks"):
        (tmp_path / side).mkdir()
        values = soft(MASK) if side.split()[-1] in sides else (MASK > 0).astype(np.uint8) * 255
        Image.fromarray(values).save(tmp_path / side / "a.png")
    command = ["guidino", "evaluate", str(tmp_path / "my masks"), str(tmp_path / "truth"), "-o", str(tmp_path / "r")]
    for _ in sides:
        assert run(*command[1:]) == 3
        message = capsys.readouterr().err
        assert "--binary would count their rims, too" in message
        command = shlex.split(message.split("; type: ")[1])
        assert command[0] == "guidino"
    assert run(*command[1:]) == 0
    assert float(rows(tmp_path / "r")["a"]["dice"]) == 1.0


COLOURS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], dtype=np.uint8)


@pytest.mark.parametrize(
    ("named", "names"), [((), "class_1,class_2"), (("--classes", "background,disc,cup"), "disc,cup")]
)
def test_the_table_that_a_refusal_of_coloured_predictions_proposes_works(
    tmp_path: Path, run: Run, rows: Rows, capsys: pytest.CaptureFixture[str], named: tuple[str, ...], names: str
) -> None:
    """Red is more frequent than green, as class 1 is than class 2; the names are those of the truth."""
    truth = np.where(OTHER & (MASK == 0), 2, MASK).astype(np.uint8)
    for side, values in (("truth", truth), ("masks", COLOURS[truth])):
        (tmp_path / side).mkdir()
        Image.fromarray(values).save(tmp_path / side / "a.png")
    arguments = ("evaluate", tmp_path / "masks", tmp_path / "truth", "-o", tmp_path / "r", *named)
    assert run(*arguments) == 3
    first, second = names.split(",")
    table = f"#000000=background,#ff0000={first},#00ff00={second}"
    assert f"--pred-classes '{table}'" in capsys.readouterr().err
    assert run(*arguments, "--pred-classes", table) == 0
    report = json.loads((tmp_path / "r" / "report.json").read_text(encoding="utf-8"))
    assert {row["target"]: row["mean"] for row in report["summary"] if row["metric"] == "dice"} == {
        first: 1.0,
        second: 1.0,
        "mean of classes": 1.0,
    }
    assert run(*arguments, "--overwrite", "--pred-classes", "#000000=background,#ff0000=x,#00ff00=y") == 2


def _write_labels(folder: Path, first: int, second: int) -> None:
    folder.mkdir()
    labels = np.where(MASK > 0, first, np.where(OTHER > 0, second, 0))
    np.save(folder / "a.npy", labels.astype(np.uint16))


LABELS = "0=background,258=a,1001=b"


@pytest.mark.parametrize(
    ("classes", "predicted", "strange"),
    [
        (LABELS, (2, 1001), "2 is no label"),
        (LABELS, (258, 77), "77 is no label"),
        ("background,a,b", (2, 1001), "1001 is no label"),
    ],
)
def test_a_proposed_table_names_classes_by_the_value_that_they_have_in_the_truth(
    tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str], classes: str, predicted: tuple[int, int], strange: str
) -> None:
    """By position, 2 beside 1001 would be the class a, which is label 258 of the truth."""
    _write_labels(tmp_path / "truth", *((258, 1001) if "=" in classes else (1, 2)))
    _write_labels(tmp_path / "masks", *predicted)
    assert run("evaluate", tmp_path / "masks", tmp_path / "truth", "--classes", classes) == 3
    message = capsys.readouterr().err
    table = LABELS if "=" in classes else "0=background,1=a,2=b"
    number = strange.partition(" ")[0]
    assert f"{strange} of the truth: add {number}=CLASS to --pred-classes '{table}'" in message
    assert "2=a" not in message


def test_predictions_with_some_labels_of_the_truth_are_offered_its_whole_table(
    tmp_path: Path, run: Run, rows: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    """Label 1001 alone is class b; its own half of the truth is found, the other half is missed."""
    _write_labels(tmp_path / "truth", 258, 1001)
    _write_labels(tmp_path / "masks", 0, 1001)
    arguments = ("evaluate", tmp_path / "masks", tmp_path / "truth", "-o", tmp_path / "r", "--classes", LABELS)
    assert run(*arguments) == 3
    assert f"--pred-classes '{LABELS}' names them" in capsys.readouterr().err
    assert run(*arguments, "--pred-classes", LABELS) == 0
    report = json.loads((tmp_path / "r" / "report.json").read_text(encoding="utf-8"))
    assert {row["target"]: row["mean"] for row in report["summary"] if row["metric"] == "dice"} == {
        "a": 0.0,
        "b": 1.0,
        "mean of classes": 0.5,
    }


@pytest.mark.parametrize(
    ("truth", "predictions"),
    [(MASK * 0.7, MASK), (MASK, MASK * 0.7), (MASK * 0.7, MASK * 0.7)],
    ids=["truth", "predictions", "both"],
)
def test_the_commands_that_a_refusal_of_probabilities_prints_work(
    tmp_path: Path,
    run: Run,
    rows: Rows,
    capsys: pytest.CaptureFixture[str],
    truth: np.ndarray,
    predictions: np.ndarray,
) -> None:
    for side, values in (("truth", truth), ("masks", predictions)):
        (tmp_path / side).mkdir()
        np.save(tmp_path / side / "a.npy", values)
    command = ["guidino", "evaluate", str(tmp_path / "masks"), str(tmp_path / "truth"), "-o", str(tmp_path / "r")]
    while run(*command[1:]) == 3:
        following = shlex.split(capsys.readouterr().err.split("; type: ")[1])
        assert len(following) > len(command)
        command = following
    assert float(rows(tmp_path / "r")["a"]["dice"]) == 1.0
