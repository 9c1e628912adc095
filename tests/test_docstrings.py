"""What a public docstring says: every parameter whose type does not say it, and every error that it raises itself.

A parameter is explained where a ``Parameters`` section or the text names it, where docs/concepts/symbols.md has its
name, or where its annotation is a documented class or choice of this package, which says more than a sentence could.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import estheory

ROOT = Path(estheory.__file__).parent
ROOMS = ("theory", "simulation", "measurement", "validation", "evidence")
FILES = sorted(p for room in ROOMS for p in (ROOT / room).rglob("*.py") if p.name != "__init__.py")
FILES += [ROOT / f"{name}.py" for name in ("landscape", "laws", "cosine_laws", "rules", "quantities", "floats")]
BUILT_IN = r"float|int|str|bool|Array|NDArray|Tensor|Any|object"
"""Types that say nothing of meaning, unit or shape."""
SYMBOLS = ROOT.parent / "docs" / "concepts" / "symbols.md"
SHARED = set(re.findall(r"`(?:\w*\.)?(\w+)`", SYMBOLS.read_text(encoding="utf-8")))
"""Names that mean the same everywhere."""
ERRORS = {"ConfigError", "DataError", "OutputError", "MissingDependencyError"}


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yield the public functions and methods of a module."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from functions(node, f"{node.name}.")
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and not _is_setter(node):
            yield prefix + node.name, node


def _is_setter(node: ast.FunctionDef) -> bool:
    return any(isinstance(d, ast.Attribute) and d.attr == "setter" for d in node.decorator_list)


def unexplained(node: ast.FunctionDef) -> list[str]:
    """Return the parameters that nothing explains."""
    text = ast.get_docstring(node) or ""
    arguments = [a for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs) if a.annotation]
    return [
        argument.arg
        for argument in arguments
        if re.search(rf"\b({BUILT_IN})\b", ast.unparse(argument.annotation))
        and not re.search(rf"(?<![\w.]){re.escape(argument.arg)}(?!\w)", text)
        and argument.arg not in SHARED
        and not re.search(r"Parameters (and result )?as (of|there)", text)
    ]


def unsaid_errors(node: ast.FunctionDef) -> list[str]:
    """Return the errors of this package that a function raises itself and does not name."""
    text = ast.get_docstring(node) or ""
    inner = [f for f in ast.walk(node) if isinstance(f, ast.FunctionDef) and f is not node]
    tried = [part for block in ast.walk(node) if isinstance(block, ast.Try) for part in block.body]
    others = {id(n) for part in (*inner, *tried) for n in ast.walk(part)}
    raised = [
        n.exc.func.id
        for n in ast.walk(node)
        if isinstance(n, ast.Raise)
        and id(n) not in others
        and isinstance(n.exc, ast.Call)
        and isinstance(n.exc.func, ast.Name)
    ]
    return sorted({name for name in raised if name in ERRORS and name not in text})


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_parameters_and_errors_are_explained(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {name: (unexplained(node), unsaid_errors(node)) for name, node in functions(tree)}
    assert {name: row for name, row in found.items() if any(row)} == {}


def test_the_check_can_fail():
    tree = ast.parse(
        'def f(width: float, config: ESConfig) -> float:\n    """Return it."""\n    raise DataError("a", "b")'
    )
    [(_, node)] = functions(tree)
    assert (unexplained(node), unsaid_errors(node)) == (["width"], ["DataError"])
