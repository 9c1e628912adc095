"""Mutation testing of the formulas: change one operator or number of a module, and see whether its own tests notice.

``python benchmarks/mutation.py walk --most 40`` prints one line a mutant that survived, then a count. Tests are
collected once and timed on the module as it is. Each mutant then runs in a forked process, its code in place of that
of the module's functions; its tests go from the fastest to the slowest and stop at the first that fails.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib
import json
import os
import random
import signal
import sys
import tempfile
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ESTIMATORS = [
    "theory/test_estimators.py",
    "theory/test_formulas.py",
    "theory/test_formulas_of_laws.py",
    "theory/test_walk.py",
    "diagnosis/test_faults.py",
]
FORECAST = ["theory/economy/test_forecast_formulas.py", "theory/economy/test_forecast.py"]
COMPONENTS = "theory/economy/test_component_formulas.py"
FORMULAS = ["theory/test_exact_cases.py", "theory/test_formulas.py", "theory/test_formulas_of_runs.py"]
TESTS = {
    "_special": ["theory/test_formulas_of_laws.py", "test_laws.py"],
    "adamw": ["theory/test_adamw.py", "theory/test_comparison.py", "theory/test_rounded_adamw.py"],
    "anchor_l1": ["theory/test_formulas_of_laws.py", "theory/test_anchor_l1.py", "theory/test_configurations.py"],
    "planning.budgets": ["theory/test_formulas_of_plans.py", "theory/test_planning.py"],
    "planning.choices": ["theory/test_planning.py", "theory/test_refusals.py"],
    "curved.comparison": ["theory/test_comparison.py"],
    "cosine_laws": ["theory/test_formulas_of_laws.py", "test_laws.py"],
    "drift": ["theory/test_formulas_of_laws.py", "theory/test_drift.py"],
    "curved.dynamics": ["theory/test_dynamics.py", "theory/test_configurations.py"],
    "gradient_path": ["theory/test_gradient_path.py"],
    "economy.coherent": ["theory/economy/test_coherent.py"],
    "economy.chord": ["theory/economy/test_chord.py"],
    "economy.planned_motion": ["theory/economy/test_planned_motion.py"],
    "economy.peak": ["theory/economy/test_peak.py"],
    "economy.steered_run": ["theory/economy/test_steered_run.py"],
    "economy.forecast": FORECAST,
    "economy.later_steps": FORECAST,
    "economy.rate": FORECAST,
    "economy.intervals": [COMPONENTS, "theory/economy/test_pilot.py", "theory/economy/test_forecast.py"],
    "economy.ledger": ["theory/economy/test_ledger.py", "theory/economy/test_forecast.py"],
    "economy.ledger_entry": ["theory/economy/test_ledger.py", "theory/economy/test_forecast.py"],
    "economy.iteration": ["theory/economy/test_pilot.py", "cli/test_pilot.py"],
    "economy.variance_components": [COMPONENTS, "theory/economy/test_pilot.py", "theory/economy/test_ledger.py"],
    "economy.pooled_members": [COMPONENTS, "theory/economy/test_pilot.py", "theory/economy/test_ledger.py"],
    "economy.pilot": ["theory/economy/test_pilot.py", "cli/test_pilot.py"],
    "economy.scale": [COMPONENTS, "theory/economy/test_pilot.py", "cli/test_pilot.py"],
    "economy.update": ["theory/economy/test_update.py", "theory/economy/test_pilot.py"],
    "effective_dimension": ["theory/test_formulas_of_laws.py", "theory/test_walk.py"],
    "curved.fluctuations": [
        "theory/test_dynamics.py",
        "theory/test_configurations.py",
        "theory/test_mean_field_error.py",
    ],
    "grpo": ["theory/test_formulas_of_predictions.py", "theory/test_adamw.py", "cli/test_predict.py"],
    "curved.long_runs": ["theory/test_dynamics.py", "theory/test_configurations.py"],
    "curved.norms": ["theory/test_steered.py", "theory/test_landscape_predictions.py"],
    "curved.predictions": ["theory/test_formulas_of_predictions.py", "theory/test_landscape_predictions.py"],
    "curved.spectra": ["test_landscape.py"],
    "laws": ["theory/test_formulas_of_laws.py", "test_laws.py"],
    "curved.error": ["theory/test_formulas_of_laws.py", "theory/test_mean_field_error.py"],
    "planning.plan": ["theory/test_formulas_of_plans.py", "theory/test_planning.py"],
    "planning.search": ["theory/test_formulas_of_plans.py", "theory/test_planning.py"],
    "rounding.precision": ["theory/test_formulas_of_laws.py", "theory/test_precision.py"],
    "rounding.predictions": ["theory/test_formulas_of_predictions.py", "theory/test_precision.py"],
    "predictions": [
        "theory/test_formulas_of_predictions.py",
        "theory/test_landscape_predictions.py",
        "cli/test_predict.py",
        "theory/test_walk.py",
    ],
    "probe.predictions": ["theory/test_formulas_of_predictions.py", "theory/test_probe_forecast.py"],
    "probe.prediction_law": ["theory/test_steered.py", "theory/test_probe_forecast.py"],
    "probe.reward": ["theory/test_formulas_of_predictions.py", "theory/test_probe_forecast.py"],
    "prompt_batch": ["theory/test_formulas_of_laws.py", "theory/test_prompt_batch.py"],
    "curved.step": ["theory/test_quadratic.py", "theory/test_configurations.py"],
    "curved.reward_laws": ["theory/test_formulas_of_laws.py", "theory/test_drift.py"],
    "curved.ranges": ["theory/test_quadratic.py", "theory/test_configurations.py", "theory/test_refusals.py"],
    "curved.recursion": ["theory/test_dynamics.py", "theory/test_configurations.py"],
    "reward_model": ["theory/test_rewards.py"],
    "rounding.adamw": ["theory/test_formulas_of_laws.py", "theory/test_rounded_adamw.py"],
    "rounding.gains": ["theory/test_formulas_of_laws.py", "theory/test_precision.py"],
    "rounding.float32_norm": ["theory/test_precision.py"],
    "shared_seed": ["theory/test_configurations.py"],
    "signal": ["theory/test_signal.py", "theory/test_configurations.py"],
    "planning.spectrum_target": ["theory/test_formulas_of_plans.py", "theory/test_planning.py"],
    "curved.stationary": [
        "theory/test_dynamics.py",
        "theory/test_configurations.py",
        "theory/test_mean_field_error.py",
    ],
    "step_predictions": [
        "theory/test_run_norm.py",
        "theory/test_formulas_of_predictions.py",
        "cli/test_predict.py",
        "theory/test_walk.py",
    ],
    "norm_laws": ["theory/test_norm_laws.py", "theory/test_steered.py", "theory/test_few_pairs.py"],
    "run_norm": [
        "theory/test_run_norm.py",
        "theory/test_norm_laws.py",
        "theory/test_steered.py",
        "theory/test_signal.py",
    ],
    "steered_cosines": ["theory/test_steered.py"],
    "estimators.estimator": ESTIMATORS,
    "estimators.pairs": ESTIMATORS,
    "estimators.ranks": ESTIMATORS,
    "estimators.raw": ESTIMATORS,
    "estimators.two_point": ESTIMATORS,
    "estimators.zscores": ESTIMATORS,
    "planning.targets": ["theory/test_formulas_of_plans.py", "theory/test_planning.py"],
    "ties": ["theory/test_formulas_of_laws.py", "theory/test_prompt_batch.py"],
    "walk": ["theory/test_walk.py", "theory/test_configurations.py", "theory/test_signal.py"],
    "walk_predictions": [
        "theory/test_walk_predictions.py",
        "theory/test_formulas_of_predictions.py",
        "theory/test_walk.py",
        "cli/test_predict.py",
    ],
    "rounding.weights": ["theory/test_formulas_of_laws.py", "theory/test_precision.py"],
}
"""Tests of each module, under tests/; those of FORMULAS and of the derivations, which pin most, are run for all."""
FOREIGN = ["validation/test_foreign.py", "validation/test_foreign_keys.py", "runs/test_foreign_steps.py"]
RUNS = {
    "runs.config": ["training/test_config.py", "training/test_options.py", "runs/test_old_runs.py"],
    "runs.config_files": ["training/test_config.py", "runs/test_old_runs.py"],
    "runs.foreign.es_at_scale": FOREIGN,
    "runs.foreign.es_awd": FOREIGN,
    "runs.foreign.esvsgrpo": FOREIGN,
    "runs.foreign.log": ["runs/test_log.py", *FOREIGN],
    "runs.foreign.rows": FOREIGN,
    "runs.foreign.trainers": FOREIGN,
    "runs.sequence": ["training/test_sequence.py", "reporting/test_sequence_report.py"],
    "runs.view": ["runs/test_old_runs.py", "runs/test_log.py", *FOREIGN],
}
"""Tests of the modules that know a run on disk, where no formula stands."""

SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult},
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
    **{ast.And: ast.Or, ast.Or: ast.And},
}


def places(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield what can be changed inside functions: operators and numbers, not annotations, messages or defaults."""
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AnnAssign, ast.arg)):
            notes = [getattr(node, name, None) for name in ("returns", "annotation")]
            skipped |= {id(part) for note in notes if note for part in ast.walk(note)}
        if isinstance(node, ast.arguments):  # defaults are no part of a function's code, which alone is replaced
            values = [value for value in (*node.defaults, *node.kw_defaults) if value]
            skipped |= {id(part) for value in values for part in ast.walk(value)}
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


def codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yield the code of every function in a module's code."""
    for inside in code.co_consts:
        if isinstance(inside, types.CodeType):
            yield inside
            yield from codes(inside)


def functions(space: dict[str, Any], path: str) -> Iterator[types.FunctionType]:
    """Yield the functions and methods that a file defines, from the namespace of its module or of a class."""
    for value in list(space.values()):
        if isinstance(value, type) and value.__module__ == space.get("__name__"):
            yield from functions({**vars(value), "__name__": value.__module__}, path)
        for name in ("fget", "func", "__func__", "__wrapped__"):
            value = getattr(value, name, value)
        if isinstance(value, types.FunctionType) and value.__code__.co_filename == path:
            yield value


def put(source: str, module: types.ModuleType) -> None:
    """Give the functions of an imported module the code of another source; whoever holds one has the new code."""
    path = str(module.__file__)
    new = {code.co_qualname: code for code in codes(compile(source, path, "exec"))}
    for function in functions(vars(module), path):
        function.__code__ = new[function.__code__.co_qualname]
    for name, other in list(sys.modules.items()):
        if name.startswith("estheory"):
            for value in list(vars(other).values()):
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


class Mutation:
    """A pytest plugin: collects once, then runs the tests on each mutant in a forked process, the fastest first.

    Forks come after the imports and before any test, so that a mutant finds nothing computed by the code it replaces.
    """

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.times: dict[str, float] = {}
        self.mutant = False

    def run(self, items: list[Any], limit: float, stop: bool) -> bool:
        """Run tests in this process; return whether all pass."""
        from _pytest.runner import runtestprotocol

        signal.setitimer(signal.ITIMER_PROF, limit)  # an endless loop counts as noticed
        passed = True
        for item in items:
            start = time.process_time()
            reports = runtestprotocol(item, nextitem=None, log=False)
            self.times[item.nodeid] = time.process_time() - start
            failures = [str(report.longrepr) for report in reports if report.failed]
            if failures and not self.mutant:
                print(item.nodeid, *failures, sep="\n", flush=True)
            passed = passed and not failures
            if stop and not passed:
                break
        return passed

    def pytest_pyfunc_call(self, pyfuncitem: Any) -> object:
        """Run a test under a limit of its time: what is slow is skipped, but fails where it was not slow before."""

        def stop(*_: object) -> None:
            import pytest

            if self.mutant:
                pytest.fail("endless")
            pytest.skip("slow")

        signal.signal(signal.SIGVTALRM, stop)
        signal.setitimer(signal.ITIMER_VIRTUAL, (20 if self.mutant else 2) * self.given.slowest)
        try:
            names = pyfuncitem._fixtureinfo.argnames
            pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        return True

    def forked(self, items: list[Any], limit: float, source: str | None, save: Path | None = None) -> bool:
        """Return whether the tests pass in a forked process, with that source in place of the module's."""
        child = os.fork()
        if child == 0:
            passed = False
            try:
                if source is not None:
                    self.mutant = True
                    put(source, self.module)
                passed = self.run(items, limit, source is not None)
                if save is not None:
                    save.write_text(json.dumps(self.times), encoding="utf-8")
            except BaseException as error:
                print(f"stopped by {error!r}", flush=True)
            os._exit(0 if passed else 1)
        return os.waitpid(child, 0)[1] == 0

    def pytest_runtestloop(self, session: Any) -> bool:
        """Time the tests on the module as it is, then run them on each mutant."""
        given, items = self.given, list(session.items)
        say = session.config.get_terminal_writer().line
        name = f"estheory.theory.{given.module}"
        with contextlib.suppress(ImportError):
            importlib.import_module("torch")  # a limit that cut its import in a test would break the next one
        self.module = importlib.import_module(name if inside(given.module).exists() else f"estheory.{given.module}")
        text = Path(str(self.module.__file__)).read_text(encoding="utf-8")
        known: dict[str, float] = json.loads(given.times.read_text("utf-8")) if given.times.exists() else {}
        if not self.forked([item for item in items if item.nodeid not in known], 3600.0, None, given.times):
            say(f"the tests of {given.module} fail without any change")
            return True
        self.times = known | json.loads(given.times.read_text(encoding="utf-8"))
        given.times.write_text(json.dumps(self.times), encoding="utf-8")
        kept = sorted((i for i in items if self.times[i.nodeid] < given.slowest), key=lambda i: self.times[i.nodeid])
        total = sum(self.times[item.nodeid] for item in kept)
        say(f"{given.module}: {len(kept)} tests of {total:.0f} s, {len(items) - len(kept)} left out")
        if not self.forked(kept, 30 + 5 * total, text):  # the code put in place of itself
            say(f"the tests of {given.module} fail on a copy of it")
            return True
        tree = ast.parse(text)
        count = len(list(places(tree)))
        chosen = given.only or random.Random(0).sample(range(count), count)[: given.most]
        survived = done = 0
        start = time.monotonic()
        for index in chosen:
            if time.monotonic() - start > 60 * given.minutes:
                break
            done += 1
            source, what = mutated(tree, index)
            if self.forked(kept, 30 + 5 * total, source):
                survived += 1
                say(f"{index}: {given.module}.py:{what}")
        say(f"{given.module}: {done} of {count} mutants, {survived} survived")
        return True


def inside(module: str) -> Path:
    """Return where a module of the theory is."""
    return ROOT / "estheory/theory" / f"{module.replace('.', '/')}.py"


def main() -> None:
    """Print the survivors of one module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module", choices=[*TESTS, *RUNS])
    parser.add_argument("--most", type=int, default=40, help="mutants, drawn at random with seed 0")
    parser.add_argument("--only", type=int, nargs="*", help="these mutants, by the number printed before them")
    parser.add_argument("--slowest", type=float, default=60.0, help="leave out tests that take more seconds")
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no mutant after that")
    parser.add_argument("--times", type=Path, help="a JSON file of the tests' times, to keep them for other modules")
    given = parser.parse_args()
    folder = tempfile.TemporaryDirectory()
    given.times = (given.times or Path(folder.name) / "times.json").resolve()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    import pytest

    derivations = [
        f"derivations/test_derivations.py::test_{name}"
        for name in ("the_evaluator_at_the_ends_of_its_range", "reference_values", "limits")
    ]
    names = RUNS.get(given.module) or dict.fromkeys([*FORMULAS, *derivations, *TESTS[given.module]])
    tests = [f"tests/{name}" for name in names]
    options = ["-q", "-n", "0", "-s", "-p", "no:cacheprovider", "-p", "no:faulthandler"]
    pytest.main([*options, *tests], plugins=[Mutation(given)])


if __name__ == "__main__":
    main()
