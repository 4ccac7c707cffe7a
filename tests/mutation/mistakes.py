"""Mistakes that can be made in a module: another operator, constant or axis, a dropped raise, and so on."""

import ast
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# Name: sources under guidino_cli/, and the tests that mirror them under tests/.
PACKAGES = {
    "evaluation": (["evaluation"], ["evaluation"]),
    "metrics": (["metrics"], ["metrics"]),
    "data": (["data"], ["data"]),
    "data/masks": (["data/masks"], ["data/masks"]),
    "preparation": (["preparation"], ["preparation"]),
    "planning": (["planning"], ["planning"]),
    "engine": (["engine"], ["engine"]),
    "guides": (
        ["models/guides.py"],
        [f"models/test_{name}.py" for name in ("guides", "guide_scale", "gates", "composed")],
    ),
    "losses": (["losses.py"], ["test_losses.py"]),
    "ssl losses": (["ssl/losses.py"], ["ssl"]),
    "settings": (["settings.py"], ["test_settings.py"]),
}
WIDER = ["commands", "plots", "test_config.py", "test_tables.py", "test_outputs.py"]
LEFT_OUT = ["models/segmenters", "models/backbones", "models/pretrained", "commands/weights", "commands/run_sets"]

COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">"), ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="), ast.In: ("in", "not in"), ast.NotIn: ("not in", "in"), ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"), ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"), ast.Pow: ("**", "*"), ast.BitAnd: ("&", "|"), ast.BitOr: ("|", "&"),
}  # fmt: skip
FUNCTIONS = {"min": "max", "max": "min", "any": "all", "all": "any", "floor": "ceil", "ceil": "floor"}
AXES = {"axis", "axes", "dim", "dims"}
# `zip(strict=...)` guards against other mistakes and changes no result.
UNTOUCHED_KEYWORDS = {"strict"}
TALKING = {"print", "warn", "info", "debug", "warning", "getLogger", "TypeVar"}


@dataclass(frozen=True)
class Mutation:
    """One mistake: bytes `start` to `stop` of a file become `text`; lines `first` to `last` are its statement."""

    package: str
    file: str
    line: int
    kind: str
    start: int
    stop: int
    text: str
    first: int
    last: int

    @property
    def name(self) -> str:
        """Identity in the record of results."""
        return f"{self.file}:{self.line}:{self.start}:{self.kind}:{self.text}"

    def apply(self, source: bytes) -> bytes:
        """The source with the mistake."""
        return source[: self.start] + self.text.encode() + source[self.stop :]

    def diff(self, source: bytes) -> str:
        """The changed line before and after."""
        before, after = source.decode().splitlines(), self.apply(source).decode().splitlines()
        at = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), self.line - 1)
        return f"-{before[at].strip()}\n+{after[at].strip()}"


class Finder(ast.NodeVisitor):
    """Every place of a file where a mistake can be made, with the mistakes for it."""

    def __init__(self, package: str, file: str, source: bytes) -> None:
        self.package, self.file, self.source = package, file, source
        self.starts = [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.places: list[list[Mutation]] = []
        self.statement: ast.stmt = ast.Pass(lineno=1, end_lineno=1)
        self.final_statement: ast.stmt | None = None
        self.visit(ast.parse(source))

    def add(self, node: ast.AST, kind: str, *texts: str, span: tuple[int, int] | None = None) -> None:
        """Record mistakes that replace `node`, or the bytes `span`."""
        start, stop = span or self.span(node)
        last = self.statement.end_lineno or self.statement.lineno
        body = getattr(self.statement, "body", None)
        if body and isinstance(body, list):  # the header of a loop or a condition
            last = max(self.statement.lineno, body[0].lineno - 1)
        first = self.statement.lineno
        line = self.source[:start].count(b"\n") + 1
        variants = [Mutation(self.package, self.file, line, kind, start, stop, text, first, last) for text in texts]
        self.places.append(variants)

    def span(self, node: Any) -> tuple[int, int]:
        """Bytes of a node."""
        return self.starts[node.lineno - 1] + node.col_offset, self.starts[node.end_lineno - 1] + node.end_col_offset

    def text(self, node: ast.AST) -> str:
        """Source of a node."""
        start, stop = self.span(node)
        return self.source[start:stop].decode()

    def swap_operator(self, node: ast.AST, left: ast.AST, right: ast.AST, pair: tuple[str, str], kind: str) -> None:
        """Replace the operator that stands between two operands."""
        start, stop = self.span(left)[1], self.span(right)[0]
        at = self.source[start:stop].find(pair[0].encode())
        if at >= 0:
            self.add(node, kind, pair[1], span=(start + at, start + at + len(pair[0])))

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.stmt):
            outer, self.statement = self.statement, node
            super().visit(node)
            self.statement = outer
        else:
            super().visit(node)

    def visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for default in [*node.args.defaults, *(item for item in node.args.kw_defaults if item)]:
            self.visit(default)
        for statement in node.body:
            self.final_statement = node.body[-1]
            self.visit(statement)

    visit_FunctionDef = visit_AsyncFunctionDef = visit_function  # type: ignore[assignment]

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for statement in node.body:
            self.visit(statement)

    def visit_Import(self, node: ast.AST) -> None:
        """Nothing to mistake in these, nor in messages and annotations."""

    visit_ImportFrom = visit_JoinedStr = visit_Import

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value:
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        if not any(isinstance(target, ast.Name) and target.id.startswith("__") for target in node.targets):
            self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        if node.exc is not None:
            self.add(node, "dropped raise", "pass")

    def visit_Return(self, node: ast.Return) -> None:
        if node is not self.final_statement:
            self.add(node, "dropped early return", "pass")
        self.generic_visit(node)

    def visit_condition(self, node: Any) -> None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        if not isinstance(node.test, ast.UnaryOp):
            self.add(node.test, "negation", f"(not ({self.text(node.test)}))")
        self.generic_visit(node)

    visit_If = visit_While = visit_condition

    def visit_IfExp(self, node: ast.IfExp) -> None:
        """A choice between two messages is a message."""
        if not any(isinstance(branch, ast.JoinedStr) for branch in (node.body, node.orelse)):
            self.visit_condition(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self.add(node, "negation", f"({self.text(node.operand)})")
            self.visit(node.operand)
        elif isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            self.add(node, "sign", self.text(node.operand))
        else:
            kind = "sign" if isinstance(node.op, ast.USub) else "negation"
            self.add(node, kind, f"({self.text(node.operand)})")
            self.visit(node.operand)

    def visit_Compare(self, node: ast.Compare) -> None:
        operands = [node.left, *node.comparators]
        for left, operator, right in zip(operands, node.ops, operands[1:], strict=False):
            self.swap_operator(node, left, right, COMPARISONS[type(operator)], "comparison")
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        pair = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        self.swap_operator(node, node.values[0], node.values[1], pair, "and/or")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        is_text = any(isinstance(side, ast.JoinedStr | ast.List) for side in (node.left, node.right))
        is_text |= any(isinstance(getattr(side, "value", None), str) for side in (node.left, node.right))
        if type(node.op) in ARITHMETIC and not is_text:
            self.swap_operator(node, node.left, node.right, ARITHMETIC[type(node.op)], "arithmetic")
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if type(node.op) in ARITHMETIC and not isinstance(node.value, ast.List | ast.JoinedStr):
            old, new = ARITHMETIC[type(node.op)]
            self.swap_operator(node, node.target, node.value, (f"{old}=", f"{new}="), "arithmetic")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in TALKING:
            return
        if name == "isinstance":
            self.visit(node.args[0])
            return
        if name in FUNCTIONS:
            start = self.span(node.func)[1] - len(name)
            self.add(node, "other function", FUNCTIONS[name], span=(start, start + len(name)))
        for first, second in zip(node.args, node.args[1:], strict=False):
            is_alike = isinstance(first, ast.Name | ast.Attribute) and type(first) is type(second)
            if is_alike and name not in {"getattr", "hasattr", "zip"}:
                span = self.span(first)[0], self.span(second)[1]
                self.add(node, "swapped arguments", f"{self.text(second)}, {self.text(first)}", span=span)
        self.visit(node.func)
        for argument in node.args:
            self.visit(argument)
        for keyword in node.keywords:
            if keyword.arg in AXES and not isinstance(keyword.value, ast.Name | ast.Attribute):
                self.visit_axis(keyword.value)
            elif keyword.arg not in UNTOUCHED_KEYWORDS:
                self.visit(keyword.value)

    def visit_axis(self, node: ast.AST) -> None:
        """Another axis for a constant axis."""
        text = self.text(node)
        other = {"0": "1", "1": "0", "2": "1", "-1": "-2", "-2": "-1", "-3": "-1"}.get(text)
        if other is not None:
            self.add(node, "axis", other)
        elif isinstance(node, ast.Tuple):
            for item in node.elts:
                self.visit_axis(item)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self.add(node, "constant", str(not node.value))
        elif isinstance(node.value, int):
            self.add(node, "constant", str(node.value + 1), str(node.value - 1) if node.value else "(-1)")
        elif isinstance(node.value, float):
            self.add(node, "constant", repr(node.value * 2 or 1.0), repr(node.value / 2 or -1.0))


def find_places(package: str) -> list[list[Mutation]]:
    """All places of a package with the mistakes for each; a file belongs to the package that names it most closely."""
    owners = {ROOT / "guidino_cli" / source: name for name, (sources, _) in PACKAGES.items() for source in sources}
    places = []
    for file in sorted((ROOT / "guidino_cli").rglob("*.py")):
        owner = next((owners[path] for path in (file, *file.parents) if path in owners), None)
        if owner == package:
            places += Finder(package, str(file.relative_to(ROOT)), file.read_bytes()).places
    return places


def draw_sample(size: int, seed: int, packages: list[str]) -> list[Mutation]:
    """A random sample in which a package's share grows with the square root of its number of places."""
    generator = random.Random(seed)
    places = {name: find_places(name) for name in packages}
    roots = {name: len(found) ** 0.5 for name, found in places.items()}
    sample = []
    for name, found in places.items():
        count = min(len(found), round(size * roots[name] / sum(roots.values())))
        sample += [generator.choice(variants) for variants in generator.sample(found, count)]
    return sample
