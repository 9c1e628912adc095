"""Mutation testing of the formulas: change one operator or number of a module, and see whether its own tests notice.

``python benchmarks/mutation.py walk --most 40`` prints one line a mutant that survived, then a count. Each mutant runs
in a forked process, its source compiled in place of the module's; nothing is written. The unchanged module's tests are
timed first; a mutant's run from the fastest to the slowest, and stop at the first that fails.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib.machinery
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FORMULAS = ["theory/test_formulas.py", "theory/test_formulas_of_runs.py"]
TESTS = {
    "_special": ["theory/test_formulas_of_laws.py", "test_laws.py"],
    "adamw": ["theory/test_adamw.py", "theory/test_comparison.py", "theory/test_rounded_adamw.py"],
    "anchor_l1": ["theory/test_anchor_l1.py", "theory/test_configurations.py"],
    "budgets": ["theory/test_formulas_of_plans.py", "theory/test_planning.py"],
    "choices": ["theory/test_planning.py", "theory/test_refusals.py"],
    "comparison": ["theory/test_comparison.py"],
    "cosine_laws": ["theory/test_formulas_of_laws.py", "test_laws.py"],
    "drift": ["theory/test_formulas_of_laws.py", "theory/test_drift.py"],
    "dynamics": ["theory/test_dynamics.py", "theory/test_configurations.py"],
    "fluctuations": ["theory/test_dynamics.py", "theory/test_configurations.py", "theory/test_mean_field_error.py"],
    "landscape_predictions": ["theory/test_formulas_of_predictions.py", "theory/test_landscape_predictions.py"],
    "landscapes": ["test_landscape.py"],
    "laws": ["theory/test_formulas_of_laws.py", "test_laws.py"],
    "mean_field_error": ["theory/test_mean_field_error.py"],
    "planning": ["theory/test_formulas_of_plans.py", "theory/test_planning.py"],
    "precision": ["theory/test_formulas_of_laws.py", "theory/test_precision.py"],
    "predictions": [
        "theory/test_formulas_of_predictions.py",
        "theory/test_landscape_predictions.py",
        "cli/test_predict.py",
        "theory/test_walk.py",
    ],
    "probe_forecast": ["theory/test_formulas_of_predictions.py", "theory/test_probe_forecast.py"],
    "prompt_batch": ["theory/test_formulas_of_laws.py", "theory/test_prompt_batch.py"],
    "quadratic": ["theory/test_quadratic.py", "theory/test_configurations.py"],
    "quadratic_law": ["theory/test_formulas_of_laws.py", "theory/test_drift.py"],
    "ranges": ["theory/test_quadratic.py", "theory/test_configurations.py", "theory/test_refusals.py"],
    "recursion": ["theory/test_dynamics.py", "theory/test_configurations.py"],
    "rewards": ["theory/test_rewards.py"],
    "rounded_adamw": ["theory/test_formulas_of_laws.py", "theory/test_rounded_adamw.py"],
    "shaping": ["theory/test_quadratic.py", "theory/test_dynamics.py", "theory/test_configurations.py"],
    "shared_seed": ["theory/test_configurations.py"],
    "signal": ["theory/test_signal.py", "theory/test_configurations.py"],
    "spectrum_target": ["theory/test_formulas_of_plans.py", "theory/test_planning.py"],
    "stationary": ["theory/test_dynamics.py", "theory/test_configurations.py", "theory/test_mean_field_error.py"],
    "targets": ["theory/test_formulas_of_plans.py", "theory/test_planning.py"],
    "ties": ["theory/test_formulas_of_laws.py", "theory/test_prompt_batch.py"],
    "walk": ["theory/test_walk.py", "theory/test_configurations.py", "theory/test_signal.py"],
    "walk_predictions": ["theory/test_formulas_of_predictions.py", "theory/test_walk.py", "cli/test_predict.py"],
}
"""Tests of each module, under tests/; those of FORMULAS and of the derivations, which pin most, are run for all."""

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


def path_of(module: str) -> Path:
    """Return the module's file: of the theory, or of the laws that it is built on."""
    inside = ROOT / "estheory/theory" / f"{module}.py"
    return inside if inside.exists() else ROOT / "estheory" / f"{module}.py"


class Order:
    """A pytest plugin: run tests from the fastest to the slowest, skip the slow, and note their processor times."""

    def __init__(self, times: dict[str, float], slowest: float) -> None:
        self.times, self.slowest = times, slowest
        self.found: dict[str, float] = {}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Sort, and leave out what is known to be slow."""
        items[:] = [item for item in items if self.times.get(item.nodeid, 0.0) < self.slowest]
        items.sort(key=lambda item: self.times.get(item.nodeid, 0.0))

    def pytest_pyfunc_call(self, pyfuncitem: Any) -> object:
        """Run a test under a limit."""

        def skip(*_: object) -> None:
            import pytest

            pytest.skip("slow")

        signal.signal(signal.SIGVTALRM, skip)
        signal.setitimer(signal.ITIMER_VIRTUAL, 1.2 * self.slowest)
        start = time.process_time()
        try:
            names = pyfuncitem._fixtureinfo.argnames
            pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            self.found[pyfuncitem.nodeid] = time.process_time() - start
        return True


def outcome(module: str, source: str, tests: list[str], limit: float, order: Order, save: Path | None = None) -> bool:
    """Return whether the tests pass with this source in place of the module's, in a forked process.

    ``limit`` is in seconds of processor time, after which the mutant counts as noticed: an endless loop is.
    """
    child = os.fork()
    if child == 0:
        signal.setitimer(signal.ITIMER_PROF, limit)
        path = str(path_of(module))
        original = importlib.machinery.SourceFileLoader.get_code

        def get_code(self: importlib.machinery.SourceFileLoader, name: str) -> object:
            return compile(source, path, "exec") if self.path == path else original(self, name)

        importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[method-assign,assignment]
        with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
            import pytest

            options = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider"]
            code = pytest.main([*options, *tests], plugins=[order])
        if save is not None:
            save.write_text(json.dumps(order.found), encoding="utf-8")
        os._exit(int(code))
    return os.waitpid(child, 0)[1] == 0


def main() -> None:
    """Print the survivors of one module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module", choices=TESTS)
    parser.add_argument("--most", type=int, default=40, help="mutants, drawn at random with seed 0")
    parser.add_argument("--only", type=int, nargs="*", help="these mutants, by the number printed before them")
    parser.add_argument("--slowest", type=float, default=60.0, help="leave out tests that take more seconds")
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no mutant after that")
    given = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    import hypothesis
    import mpmath
    import pytest
    import scipy.stats
    import sympy

    del hypothesis, mpmath, pytest, scipy, sympy  # imported once, before the forks
    text = path_of(given.module).read_text(encoding="utf-8")
    tree = ast.parse(text)
    derivations = [
        f"derivations/test_derivations.py::test_{name}"
        for name in ("the_evaluator_at_the_ends_of_its_range", "reference_values", "limits")
    ]
    tests = [f"tests/{name}" for name in dict.fromkeys([*FORMULAS, *derivations, *TESTS[given.module]])]
    with tempfile.TemporaryDirectory() as folder:
        save = Path(folder) / "times.json"
        if not outcome(given.module, text, tests, 3600, Order({}, given.slowest), save):
            sys.exit(f"the tests of {given.module} fail without any change")
        times: dict[str, float] = json.loads(save.read_text(encoding="utf-8"))
    kept = [seconds for seconds in times.values() if seconds < given.slowest]
    limit = 30 + 5 * sum(kept)
    print(f"{given.module}: {len(kept)} tests of {sum(kept):.0f} s, {len(times) - len(kept)} left out", flush=True)
    count = len(list(places(tree)))
    chosen = given.only or random.Random(0).sample(range(count), count)[: given.most]
    survived = done = 0
    start = time.monotonic()
    for index in chosen:
        if time.monotonic() - start > 60 * given.minutes:
            break
        done += 1
        source, what = mutated(tree, index)
        if outcome(given.module, source, tests, limit, Order(times, given.slowest)):
            survived += 1
            print(f"{index}: {given.module}.py:{what}", flush=True)
    print(f"{given.module}: {done} of {count} mutants, {survived} survived", flush=True)


if __name__ == "__main__":
    main()
