"""Files, modules, names, settings and link targets that the documentation mentions exist."""

import ast
import re
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from guidino_cli.config import RunConfig
from guidino_cli.pretrain_config import PretrainConfig

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "examples/**/*.md", "benchmarks/results/*.md")
    for path in ROOT.glob(pattern)
)
IDS = [str(page.relative_to(ROOT)) for page in PAGES]
_PATH = re.compile(r"(?<![\w./-])(?:guidino_cli|tests|presets|docs|benchmarks|examples|\.ci)/[\w./-]+\w")
_DOTTED = re.compile(r"\bguidino_cli(?:\.\w+)+")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
# In code, as in `train.lr` or `--set train.lr=1e-3`.
_SECTIONS = "model|data|train|predict|student|dino|distill|stages"
_SETTING = re.compile(rf"(?<=[`\s'])(?:{_SECTIONS})\.[a-z0-9_.]*[a-z0-9_](?=[`=])")


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_mentioned_file_exists(page: Path) -> None:
    # NAME stands for the name of something new.
    missing = [path for path in _PATH.findall(read(page)) if "NAME" not in path and not (ROOT / path).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_mentioned_module_or_name_exists(page: Path) -> None:
    missing = [name for name in _DOTTED.findall(read(page)) if not is_defined(name)]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_mentioned_setting_exists(page: Path) -> None:
    names = set(_SETTING.findall(read(page)))
    missing = [name for name in names if not any(is_setting(name, config) for config in (RunConfig, PretrainConfig))]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_link_within_the_repository_has_a_target(page: Path) -> None:
    broken = []
    for link in _LINK.findall(read(page)):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def test_the_index_lists_every_page_of_the_documentation() -> None:
    index = read(ROOT / "docs" / "index.md")
    missing = [page.name for page in (ROOT / "docs").glob("*.md") if page.name != "index.md" and page.name not in index]
    assert not missing


def test_a_name_that_does_not_exist_is_found_missing() -> None:
    assert is_defined("guidino_cli.errors.DataError")
    assert not is_defined("guidino_cli.errors.NoSuchError")
    assert not is_defined("guidino_cli.no_such_module")
    assert "the-plateau" in anchors(ROOT / "docs" / "pretrain.md")
    assert is_setting("stages.0.gram", PretrainConfig)
    assert is_setting("model.guide.at", RunConfig)
    assert not is_setting("train.no_such_setting", RunConfig)


def is_defined(dotted: str) -> bool:
    """Whether a dotted name is a package, a module, or a module-level name of one; nothing is imported."""
    parts = dotted.split(".")
    for depth in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:depth])
        source = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
        if source.is_file():
            return depth == len(parts) or parts[depth] in module_names(source)
    return False


def is_setting(dotted: str, config: Any) -> bool:
    """Whether a dotted name is a setting of a configuration; below options and other mappings every name is."""
    kind = config
    for part in dotted.split("."):
        sections = [item for item in (kind, *get_args(kind)) if is_dataclass(item)]
        if not sections:
            return not isinstance(kind, type) or kind is dict
        if part.isdigit():
            continue
        hints = get_type_hints(sections[0])
        if part not in {item.name for item in fields(sections[0])}:
            return False
        kind = hints[part]
    return True


@cache
def module_names(source: Path) -> frozenset[str]:
    """Functions, classes and variables at the top level of a file."""
    names = set()
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return frozenset(names)


@cache
def anchors(page: Path) -> frozenset[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", read(page), re.M)
    return frozenset(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)


def test_the_readme_counts_the_networks() -> None:
    from guidino_cli.models.segmenters.registry import SEGMENTER_INFO

    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"nnWNet, U-Net, or one of {len(SEGMENTER_INFO) - 2} others" in readme
