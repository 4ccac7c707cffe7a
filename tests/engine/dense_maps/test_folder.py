"""Each backbone's maps lie in a folder of their own."""

import os
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from guidino_cli.engine.dense_maps.folder import bytes_in, default_folder, disk_cache
from guidino_cli.errors import ConfigError
from guidino_cli.models import build_backbone
from guidino_cli.models.base import Backbone

CPU = torch.device("cpu")
TINY = {"hidden_size": 32, "depth": 2, "heads": 2}


def test_what_others_keep_in_the_folder_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "features" / "others").mkdir(parents=True)
    (tmp_path / "features" / "others" / "large.bin").write_bytes(bytes(1000))
    assert bytes_in(tmp_path / "features") == 0


def test_nothing_unfinished_is_left_and_what_killed_runs_left_is_removed(tmp_path: Path) -> None:
    backbone = build_backbone("random", TINY)
    cache = disk_cache(backbone, root=tmp_path / "features", gigabytes=1, device=CPU)
    assert cache is not None
    cache.recall(["a"], lambda: [torch.zeros(1, 3, 2, 2)], pixels=torch.zeros(1, 3, 4, 4))
    written = next((tmp_path / "features").rglob("*.safetensors"))
    old, young = (written.with_name(f"{name}.tmp") for name in ("old", "young"))
    for path in (old, young):
        path.write_text("half")
    two_hours_ago = time.time() - 7200
    os.utime(old, (two_hours_ago, two_hours_ago))
    disk_cache(backbone, root=tmp_path / "features", gigabytes=1, device=CPU)
    assert list((tmp_path / "features").rglob("*.tmp")) == [young]


@pytest.mark.parametrize("other", [{"seed": 1}, {"layers": [1]}, {"norm": False}, {"scale": 2.0}])
def test_another_backbone_or_other_layers_of_it_have_a_folder_of_their_own(
    other: dict[str, object], tmp_path: Path
) -> None:
    folders = []
    for options in (TINY, TINY, {**TINY, **other}):
        cache = disk_cache(build_backbone("random", options), root=tmp_path, gigabytes=1, device=CPU)
        assert cache is not None
        folders.append(cache.folder)
    assert folders[0] == folders[1] != folders[2]
    assert {path.name for path in folders[0].iterdir()} == {"about.json"}


def test_a_backbone_of_any_kind_has_a_folder(tmp_path: Path) -> None:
    class Bare(Backbone):
        channels, stride, is_frozen = 4, 16, True

        def __init__(self, channels: int, sha256: str) -> None:
            super().__init__()
            self.level_channels, self.identity = [channels], {"weights": "mine", "sha256": sha256}
            self.layer = nn.Conv2d(3, channels, 1)

        def forward(self, image: Tensor) -> list[Tensor]:
            return [self.layer(image)]

    folders = set()
    for backbone in (Bare(4, "1"), Bare(4, "1"), Bare(8, "1"), Bare(4, "2")):
        cache = disk_cache(backbone, root=tmp_path, gigabytes=1, device=CPU)
        assert cache is not None
        folders.add(cache.folder)
    assert len(folders) == 3


def test_where_the_weights_lie_does_not_matter(tmp_path: Path) -> None:
    backbone = build_backbone("random", TINY)
    before = disk_cache(backbone, root=tmp_path, gigabytes=1, device=CPU)
    backbone.identity = {**backbone.identity, "weights": "/elsewhere"}
    after = disk_cache(backbone, root=tmp_path, gigabytes=1, device=CPU)
    assert before is not None
    assert after is not None
    assert before.folder == after.folder


def test_there_is_no_cache_without_a_backbone_or_for_one_that_learns(tmp_path: Path) -> None:
    backbone = build_backbone("random", TINY)
    backbone.is_frozen = False
    assert disk_cache(None, root=tmp_path, gigabytes=1, device=CPU) is None
    assert disk_cache(backbone, root=tmp_path, gigabytes=1, device=CPU) is None
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file/.*cannot be written .*train\.dense_cache_folder"):
        disk_cache(build_backbone("random", TINY), root=tmp_path / "file", gigabytes=1, device=CPU)


def test_by_default_maps_lie_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "guidino" / "features"
