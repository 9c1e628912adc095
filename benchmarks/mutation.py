"""Mutation testing of the formulas: change one operator or number of a module, and see whether its own tests notice.

``python benchmarks/mutation.py walk --most 40`` prints one line a mutant that survived, then a count. Each mutant runs
in a forked process, its source compiled in place of the module's; nothing is written.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib.machinery
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = {
    "walk": ["theory/test_walk.py", "theory/test_configurations.py", "theory/test_signal.py"],
    "quadratic": ["theory/test_quadratic.py", "theory/test_configurations.py"],
    "signal": ["theory/test_signal.py", "theory/test_configurations.py"],
    "drift": ["theory/test_drift.py"],
    "adamw": ["theory/test_adamw.py", "theory/test_comparison.py", "theory/test_rounded_adamw.py"],
    "rewards": ["theory/test_rewards.py"],
    "comparison": ["theory/test_comparison.py"],
    "dynamics": ["theory/test_dynamics.py", "theory/test_configurations.py"],
    "recursion": ["theory/test_dynamics.py", "theory/test_configurations.py"],
}
"""Tests of each module, under tests/."""

SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult},
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
    **{ast.And: ast.Or, ast.Or: ast.And},
}


def places(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield what can be changed inside functions: operators and numbers, but nothing of annotations or messages."""
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AnnAssign, ast.arg)):
            notes = [getattr(node, name, None) for name in ("returns", "annotation")]
            skipped |= {id(part) for note in notes if note for part in ast.walk(note)}
        if isinstance(node, (ast.Raise, ast.JoinedStr)):
            skipped |= {id(part) for part in ast.walk(node)}
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        for node in ast.walk(function):
            if id(node) in skipped:
                continue
            skipped.add(id(node))
            number = isinstance(node, ast.Constant) and type(node.value) in (int, float)
            if number or (isinstance(node, (ast.BinOp, ast.Compare, ast.BoolOp, ast.UnaryOp)) and _swappable(node)):
                yield node


def _swappable(node: ast.AST) -> bool:
    if isinstance(node, ast.Compare):
        return type(node.ops[0]) in SWAPS
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, (ast.USub, ast.Not))
    return type(node.op) in SWAPS  # type: ignore[attr-defined]


def mutated(tree: ast.Module, index: int) -> tuple[str, str]:
    """Return the source with the place of that index changed, and the line before and after."""
    tree = copy.deepcopy(tree)
    node = list(places(tree))[index]
    line = node.lineno  # type: ignore[attr-defined]
    before = ast.unparse(node)
    if isinstance(node, ast.Constant):
        node.value = node.value + 1
    elif isinstance(node, ast.Compare):
        node.ops[0] = SWAPS[type(node.ops[0])]()  # type: ignore[call-overload]
    elif isinstance(node, ast.UnaryOp):
        return _without(tree, node), f"{line}: {before}  ->  {ast.unparse(node.operand)}"
    else:
        node.op = SWAPS[type(node.op)]()  # type: ignore[attr-defined]
    return ast.unparse(tree), f"{line}: {before}  ->  {ast.unparse(node)}"


def _without(tree: ast.Module, unary: ast.UnaryOp) -> str:
    """Return the source without that minus or not."""

    class Drop(ast.NodeTransformer):
        def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
            self.generic_visit(node)
            return node.operand if node is unary else node

    return ast.unparse(Drop().visit(tree))


def outcome(module: str, source: str, tests: list[str], seconds: int, options: list[str]) -> bool:
    """Return whether the tests pass with this source in place of the module's, in a forked process."""
    child = os.fork()
    if child == 0:
        signal.alarm(seconds)  # an endless loop counts as noticed
        path = str(ROOT / "estheory/theory" / f"{module}.py")
        original = importlib.machinery.SourceFileLoader.get_code

        def get_code(self: importlib.machinery.SourceFileLoader, name: str) -> object:
            return compile(source, path, "exec") if self.path == path else original(self, name)

        importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[method-assign,assignment]
        with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
            import pytest

            code = pytest.main(["-x", "-q", "-n", "0", "-p", "no:cacheprovider", *options, *tests])
        os._exit(int(code))
    return os.waitpid(child, 0)[1] == 0


def main() -> None:
    """Print the survivors of one module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module", choices=TESTS)
    parser.add_argument("--most", type=int, default=40, help="mutants, drawn at random with seed 0")
    parser.add_argument(
        "--seconds", type=int, default=60, help="of one mutant's tests, after which it counts as noticed"
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no mutant after that")
    parser.add_argument("--deselect", default="", help="-k expression: leave slow tests out")
    given = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    import hypothesis
    import mpmath
    import pytest
    import scipy.stats
    import sympy

    del hypothesis, mpmath, pytest, scipy, sympy  # imported once, before the forks
    text = (ROOT / "estheory/theory" / f"{given.module}.py").read_text(encoding="utf-8")
    tree = ast.parse(text)
    options = ["-k", given.deselect] if given.deselect else []
    tests = [f"tests/{name}" for name in TESTS[given.module]]
    if not outcome(given.module, text, tests, 10 * given.seconds, options):
        sys.exit(f"the tests of {given.module} fail without any change")
    count = len(list(places(tree)))
    chosen = random.Random(0).sample(range(count), min(given.most, count))
    survived = done = 0
    start = time.monotonic()
    for index in chosen:
        if time.monotonic() - start > 60 * given.minutes:
            break
        done += 1
        source, what = mutated(tree, index)
        if outcome(given.module, source, tests, given.seconds, options):
            survived += 1
            print(f"{given.module}.py:{what}", flush=True)
    print(f"{given.module}: {done} of {count} mutants, {survived} survived", flush=True)


if __name__ == "__main__":
    main()
