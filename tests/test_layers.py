"""The layers of the package: which module may import which."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import guidino_cli

ROOT = Path(guidino_cli.__file__).parent
LAYER_0 = (
    "guidino_cli", "types", "errors", "files", "outputs", "device_transfer", "distributed", "processes", "progress",
    "registry", "settings", "inheritance", "settings_reference", "config", "config_checks",
    "pretrain_config", "options", "html", "tables", "json_files", "yaml_files",
)  # fmt: skip
LAYERS = {
    **dict.fromkeys(LAYER_0, 0),
    **dict.fromkeys(("data", "models", "losses", "metrics", "plots", "ssl"), 1),
    **dict.fromkeys(("engine", "preparation", "planning", "evaluation", "registration"), 2),
    "commands": 3,
    **dict.fromkeys(("cli", "api"), 4),
    "__main__": 5,
}
FILES = sorted(ROOT.rglob("*.py"))


def _package(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] not in {"__version__", ""} else "guidino_cli"


def _imports(node: ast.AST, *, nested: bool) -> Iterator[str]:
    """Dotted names imported below a node, without those for the type checker only."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif nested or not isinstance(child, ast.FunctionDef | ast.ClassDef):
            yield from _imports(child, nested=nested)


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _imported(path: Path, *, nested: bool = True) -> list[str]:
    return list(_imports(_tree(path), nested=nested))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_from_its_own_package_or_from_lower_layers(path: Path) -> None:
    package = _package("guidino_cli." + ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__"))
    own = [name for name in _imported(path) if name.split(".")[0] == "guidino_cli"]
    # Layer 0 counts as one package.
    wrong = [name for name in own if _package(name) != package and LAYERS[_package(name)] >= max(1, LAYERS[package])]
    assert not wrong, f"{path.name} is in {package} (layer {LAYERS[package]})"


@pytest.mark.parametrize("name", ["types", "errors", "config", "settings", "registry", "files", "outputs"])
def test_layer_0_imports_no_torch_at_run_time(name: str) -> None:
    heavy = {"torch", "transformers", "accelerate", "numpy"}
    assert not heavy & {item.split(".")[0] for item in _imported(ROOT / f"{name}.py")}


def test_the_command_line_imports_no_command_before_it_is_called() -> None:
    files = sorted((ROOT / "cli").glob("*.py"))
    own = [name for path in files for name in _imported(path, nested=False) if name.startswith("guidino_cli")]
    assert own
    assert all(LAYERS[_package(name)] == 0 or _package(name) == "cli" for name in own)


def test_only_commands_print() -> None:
    speakers = {
        path.relative_to(ROOT).parts[0]
        for path in FILES
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert speakers <= {"commands", "cli"}


def test_no_public_class_name_is_used_twice() -> None:
    """A name that two classes share cannot be searched for."""
    names = [
        node.name
        for path in FILES
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    assert sorted({name for name in names if names.count(name) > 1}) == []
