"""LabelMe, CVAT, Label Studio and GeoJSON as layouts of `prepare`."""

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_images import save_images
from PIL import Image

from guidino_cli.errors import DataError
from guidino_cli.preparation.layouts import detect_layout

Prepare = Callable[..., dict[str, np.ndarray]]

_SQUARE = [[1, 1], [5, 1], [5, 4], [1, 4]]


def _square() -> np.ndarray:
    mask = np.zeros((6, 8), dtype=np.uint8)
    mask[1:4, 1:5] = 1
    return mask


def _save(root: Path, name: str, content: object) -> Path:
    save_images(root, "a.png")
    (root / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return root


def _labelme(*shapes: dict[str, Any], **changes: object) -> dict[str, object]:
    head = {"version": "5", "imagePath": "..\\x\\a.png", "imageData": None, "imageWidth": 8, "imageHeight": 6}
    return {**head, "shapes": list(shapes), **changes}


def _shape(kind: str, points: object, label: str | None = "polyp", **more: object) -> dict[str, Any]:
    return {"label": label, "shape_type": kind, "points": points, **more}


def test_labelme_draws_polygons_rectangles_circles_and_masks(tmp_path: Path, prepared: Prepare) -> None:
    png = io.BytesIO()
    Image.fromarray(np.array([[255, 0], [0, 255]], dtype=np.uint8)).save(png, "PNG")
    mask = base64.b64encode(png.getvalue()).decode()
    shapes = [
        _shape("polygon", _SQUARE),
        _shape("rectangle", [[8, 6], [6, 4]]),
        _shape("mask", [[6, 0], [7, 1]], "tool", mask=mask),
        _shape("point", [[1, 1]]),
    ]
    source = _save(tmp_path / "x", "a.json", _labelme(*shapes))
    expected = _square()
    expected[4:, 6:] = 1
    expected[0, 6] = expected[1, 7] = 2
    assert detect_layout(source).layout == "labelme"
    assert any("LabelMe point (1)" in note for note in detect_layout(source).notes)
    assert np.array_equal(prepared(source)["a"], expected)


def test_a_circle_of_labelme_has_its_area(tmp_path: Path, prepared: Prepare) -> None:
    save_images(tmp_path / "x", "a.png", size=(100, 80))
    shape = _shape("circle", [[50, 40], [50, 10]])
    source = tmp_path / "x"
    (source / "a.json").write_text(json.dumps(_labelme(shape, imageWidth=100, imageHeight=80)))
    assert int(prepared(source)["a"].sum()) == pytest.approx(np.pi * 30**2, rel=0.01)


def test_an_oriented_rectangle_of_labelme_has_four_corners(tmp_path: Path, prepared: Prepare) -> None:
    """A square turned by 45 degrees with diagonals of 60 covers 1,800 pixels."""
    save_images(tmp_path / "x", "a.png", size=(100, 80))
    shape = _shape("oriented_rectangle", [[50, 10], [80, 40], [50, 70], [20, 40]])
    (tmp_path / "x" / "a.json").write_text(json.dumps(_labelme(shape, imageWidth=100, imageHeight=80)))
    mask = prepared(tmp_path / "x")["a"]
    assert int(mask.sum()) == pytest.approx(1800, rel=0.02)
    assert mask[40, 22] == mask[40, 77] == 1
    assert mask[15, 25] == 0


def test_an_image_inside_its_label_file_is_named(
    tmp_path: Path, prepared: Prepare, capsys: pytest.CaptureFixture[str]
) -> None:
    shapes = _labelme(_shape("polygon", _SQUARE), imagePath="b.png", imageData="iVBORw0KGgo=")
    source = _save(tmp_path / "x", "b.json", shapes)
    with pytest.raises(DataError):
        prepared(source)
    assert "(b.png is only inside b.json as imageData, save it as a file)" in capsys.readouterr().err


_META = "<meta><task><labels><label><name>tool</name></label><label><name>polyp</name></label></labels></task></meta>"


def _cvat(shapes: str, meta: str = _META, size: str = 'width="8" height="6"') -> str:
    return f'<?xml version="1.0"?><annotations>{meta}<image id="0" name="s/a.png" {size}>{shapes}</image></annotations>'


_POLYGON = '<polygon label="polyp" points="1,1;5,1;5,4;1,4" z_order="1"/>'


def test_cvat_draws_polygons_and_masks_by_their_depth(tmp_path: Path, prepared: Prepare) -> None:
    # Two rows of three pixels, of which the first row and the last pixel are inside; above the polygon by z_order.
    mask = '<mask label="tool" rle="0, 3, 2, 1" left="4" top="3" width="3" height="2" z_order="2"/>'
    box = '<box label="polyp" xtl="0" ytl="0" xbr="1" ybr="1"/>'
    source = _save(tmp_path / "x", "annotations.xml", _cvat(mask + _POLYGON + box))
    expected = _square() * 2
    expected[3, 4:7] = expected[4, 6] = 1
    dataset = detect_layout(source)
    assert (dataset.layout, dataset.class_names) == ("cvat", ("background", "tool", "polyp"))
    assert any("CVAT box (1)" in note for note in dataset.notes)
    assert np.array_equal(prepared(source)["a"], expected)


@pytest.mark.parametrize("meta", [_META.replace("polyp", "other"), ""])
def test_a_label_that_no_file_lists_is_a_class_after_the_listed_ones(
    tmp_path: Path, prepared: Prepare, meta: str
) -> None:
    save_images(tmp_path / "x", "b.png")
    source = _save(tmp_path / "x", "a.xml", _cvat(_POLYGON, meta))
    (source / "b.xml").write_text(_cvat(_POLYGON.replace("polyp", "tool")).replace("s/a.png", "s/b.png"))
    listed = ["other"] * bool(meta)
    names = detect_layout(source).class_names
    assert names == ("background", "tool", *listed, "polyp")
    assert np.array_equal(prepared(source)["a"], _square() * names.index("polyp"))


def _task(*results: dict[str, Any], annotations: int = 1) -> list[dict[str, object]]:
    annotation = {"result": list(results), "was_cancelled": False}
    return [{"id": 1, "data": {"image": "/data/upload/3/1a2b3c4d-a.png"}, "annotations": [annotation] * annotations}]


def _result(kind: str, **value: object) -> dict[str, Any]:
    return {"type": kind, "original_width": 8, "original_height": 6, "value": value}


def _brush(mask: np.ndarray) -> list[int]:
    """Each value by itself in runs of one."""
    values = np.repeat(mask.ravel().astype(int) * 255, 4)
    bits = f"{len(values):032b}" + f"{7:05b}" + "0000" * 4
    bits += "".join(f"0000{value:08b}" for value in values)
    return list(int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big"))


def test_label_studio_draws_polygons_and_brushes(tmp_path: Path, prepared: Prepare) -> None:
    tool = np.zeros((6, 8), dtype=bool)
    tool[5, 2:] = tool[1, 1] = True
    points = [[100 * x / 8, 100 * y / 6] for x, y in _SQUARE]
    results = [
        _result("polygonlabels", points=points, polygonlabels=["polyp"]),
        _result("brushlabels", format="rle", rle=_brush(tool), brushlabels=["tool"]),
        _result("choices", choices=["good"]),
    ]
    source = _save(tmp_path / "x", "export.json", _task(*results))
    assert detect_layout(source).layout == "labelstudio"
    assert np.array_equal(prepared(source)["a"], np.where(tool, 2, _square()))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.xml",
            _cvat('<box label="polyp" xtl="0" ytl="0" xbr="1" ybr="1"/>'),
            "has 1 object of polyp without an outline",
        ),
        (
            "a.xml",
            _cvat('<ellipse label="tool" cx="4" cy="3" rx="2" ry="1"/>'),
            "has 1 object of tool without an outline",
        ),
        (
            "a.json",
            _task(_result("rectanglelabels", x=1, y=1, width=9, height=9, rectanglelabels=["polyp"])),
            "mark 1 object without an outline (a box?), expected polygons or masks",
        ),
    ],
)
def test_boxes_alone_are_refused(
    tmp_path: Path, prepared: Prepare, capsys: pytest.CaptureFixture[str], name: str, content: object, message: str
) -> None:
    source = _save(tmp_path / "x", name, content)
    with pytest.raises(DataError) as caught:
        prepared(source)
    assert message in f"{capsys.readouterr().err} {caught.value}"


def _feature(coordinates: object, kind: object = "Polygon", name: object = "polyp") -> dict[str, Any]:
    properties = {"objectType": "annotation", "classification": {"name": name}}
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": properties}


def _collection(*features: dict[str, Any]) -> dict[str, object]:
    return {"type": "FeatureCollection", "features": list(features)}


def test_geojson_without_features_is_an_empty_mask(tmp_path: Path, prepared: Prepare) -> None:
    save_images(tmp_path / "x", "b.png")
    source = _save(tmp_path / "x", "a.geojson", _collection(_feature([_SQUARE])))
    (source / "b.geojson").write_text(json.dumps(_collection()))
    masks = prepared(source)
    assert np.array_equal(masks["a"], _square())
    assert not masks["b"].any()


def test_files_of_one_name_belong_to_the_images_in_folders_of_one_name(tmp_path: Path, prepared: Prepare) -> None:
    save_images(tmp_path / "x", "images/p1/1.png", "images/p2/1.png")
    for folder, name in (("p1", "polyp"), ("p2", "tool")):
        (tmp_path / "x" / "geojson" / folder).mkdir(parents=True)
        content = json.dumps(_collection(_feature([_SQUARE], name=name)))
        (tmp_path / "x" / "geojson" / folder / "1.geojson").write_text(content)
    masks = prepared(tmp_path / "x")
    assert {case: int(mask.max()) for case, mask in masks.items()} == {"images_p1_1": 1, "images_p2_1": 2}


def test_an_encoded_name_of_label_studio_is_decoded(tmp_path: Path, prepared: Prepare) -> None:
    points = [[100 * x / 8, 100 * y / 6] for x, y in _SQUARE]
    task = _task(_result("polygonlabels", points=points, polygonlabels=["polyp"]))
    task[0]["data"] = {"image": "/data/local-files/?d=x/a%20b.png"}
    save_images(tmp_path / "x", "a b.png")
    (tmp_path / "x" / "export.json").write_text(json.dumps(task))
    assert np.array_equal(prepared(tmp_path / "x")["a b"], _square())


@pytest.mark.parametrize("name", ["a.geojson", "a.png.geojson"])
def test_geojson_draws_holes_and_several_parts(tmp_path: Path, prepared: Prepare, name: str) -> None:
    ring = [[0, 0], [6, 0], [6, 6], [0, 6], [0, 0]]
    hole = [[2, 2], [4, 2], [4, 4], [2, 4], [2, 2]]
    part = [[7, 0], [8, 0], [8, 1], [7, 1], [7, 0]]
    source = _save(tmp_path / "x", name, _collection(_feature([[ring, hole], [part]], "MultiPolygon")))
    expected = np.zeros((6, 8), dtype=np.uint8)
    expected[:, :6] = 1
    expected[2:4, 2:4] = 0
    expected[0, 7] = 1
    assert detect_layout(source).layout == "geojson"
    assert np.array_equal(prepared(source)["a"], expected)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.json",
            _labelme(_shape("polygon", [[1, 1], [2, 2]])),
            r"polygon of 2 points, expected at least 3 \(shape 1\)",
        ),
        ("a.json", _labelme(_shape("polygon", _SQUARE, None)), "a shape without a label"),
        ("a.json", _labelme(_shape("polygon", _SQUARE), imageHeight=7), "is 8x7 there, the file 8x6"),
        ("a.json", _labelme(_shape("polygon", _SQUARE), imagePath="b.png"), r"not there .*b\.png"),
        ("a.json", _labelme(_shape("mask", [[0, 0], [1, 1]], mask="AAAA")), "a mask that is no PNG"),
        ("a.json", json.dumps(_labelme(_shape("polygon", _SQUARE)))[:-9], "damaged"),
        ("a.xml", _cvat(_POLYGON.replace("5,4", "nan,4")), r"not finite \(NaN"),
        ("a.xml", _cvat(_POLYGON.replace("5,4", "5")), "polygon of 7 numbers"),
        ("a.xml", _cvat('<mask label="tool" rle="1,1" left="0" top="0" width="2" height="2"/>'), "runs of 2 pixels"),
        (
            "a.xml",
            _cvat(f'<mask label="tool" rle="{10**30},4" left="0" top="0" width="2" height="2"/>'),
            "a run of 1000000000000000000000000000000 pixels, expected 4",
        ),
        ("a.json", _labelme(_shape("mask", [[0, 0], [1e300, 1]], mask="AAAA")), r"lie too far outside \(shape 1\)"),
        (
            "a.json",
            _task(_result("polygonlabels", points=[[800, 0], [0, 0], [0, 90]], polygonlabels=["polyp"])),
            "from 0 to 8, expected shares of width and height, 0 to 1",
        ),
        ("a.xml", _cvat(_POLYGON)[:-5], "damaged"),
        (
            "a.xml",
            _cvat(_POLYGON, "<meta><label/><task><labels><label/></labels></task></meta>"),
            "label without a name",
        ),
        ("a.xml", _cvat(_POLYGON).replace("<annotations>", '<!DOCTYPE a [<!ENTITY b "c">]><annotations>'), "a DOCTYPE"),
        ("a.json", _task(_result("polygonlabels", points=_SQUARE[:2], polygonlabels=["polyp"])), "polygon of 2 points"),
        ("a.json", _task(_result("polygonlabels", points=_SQUARE, polygonlabels=[])), r"\[\], expected one label"),
        ("a.json", _task(_result("brushlabels", rle=[0, 0, 0, 4, 0], brushlabels=["a"])), "4 values, expected 192"),
        ("a.json", _task(_result("polygonlabels") | {"type": ["x"]}), r"left out: Label Studio \['x'\] \(1\)"),
        ("a.json", _labelme(_shape("polygon", _SQUARE, shape_type={"x": 1})), r"a shape of type \{'x': 1\}, expected"),
        ("a.geojson", _collection(_feature([_SQUARE], {})), r"left out: GeoJSON \{\} \(1\)"),
        ("a.json", _task(annotations=2), "has 2 finished annotations, expected 1"),
        ("a.geojson", _collection(_feature([_SQUARE[:2]])), "feature 1 has a polygon of 2 points"),
        ("a.geojson", _collection(_feature([_SQUARE], name=None)), "feature 1 has no classification"),
        (
            "a.geojson",
            _collection(_feature([[[-122.5, 37], [-122, 37], [-122, 38]]])),
            r"a region of polyp wholly outside, x -122\.5 to -122 and y 37 to 38, the image is 8x6; .*resolution",
        ),
        (
            "a.xml",
            _cvat('<mask label="tool" rle="0,4" left="70" top="2" width="2" height="2"/>'),
            "a region of tool wholly outside, x 70 to 72 and y 2 to 4",
        ),
        ("b.geojson", _collection(_feature([_SQUARE])), r"1 image named by the label files is not there \(b\)"),
    ],
)
def test_bad_label_files_are_one_line(
    tmp_path: Path, prepared: Prepare, capsys: pytest.CaptureFixture[str], name: str, content: object, message: str
) -> None:
    source = _save(tmp_path / "x", name, content)
    with pytest.raises(DataError) as caught:
        prepared(source)
    # Several problems are listed before the error, one a line.
    lines = [*capsys.readouterr().err.splitlines(), str(caught.value)]
    assert any(re.search(message, line) for line in lines), lines


def test_an_entity_in_another_encoding_is_refused_too(tmp_path: Path) -> None:
    source = _save(tmp_path, "a.xml", "")
    text = _cvat(_POLYGON).replace('<?xml version="1.0"?>', '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]>')
    (source / "a.xml").write_bytes(text.encode("utf-16"))
    with pytest.raises(DataError, match="a DOCTYPE or entities"):
        detect_layout(source / "a.xml", "cvat")
