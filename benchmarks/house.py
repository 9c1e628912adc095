"""Figures of the house: its size, its branches on what one class should know, and the options of its commands.

``python benchmarks/house.py [CHECKOUT]`` measures a checkout of this repository by its path; without one, its own.
``--where`` also lists the places of the figures that should be 0, and functions of many parameters by name.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MANY_PARAMETERS = 6
ESTIMATOR_FIELDS = {"shaping", "antithetic"}
"""What a configuration says of its estimator."""
RUN_FIELDS = ("config", "run_config", "settings")
"""Names under which the configuration of a recorded run goes."""

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

LIST_OPTIONS = """
import json, typer
from estheory.cli.app import app

def walk(command, path, found):
    inner = getattr(command, "commands", None)
    names = command.list_commands(None) if hasattr(command, "list_commands") else list(inner or ())
    for name in names:
        walk(command.get_command(None, name), [*path, name], found)
    if not names:
        shown = [p for p in command.params if p.param_type_name == "option" and not getattr(p, "hidden", False)]
        found[" ".join(path)] = len(shown)
    return found

print(json.dumps(walk(typer.main.get_command(app), [], {})))
"""


@dataclass(frozen=True, kw_only=True)
class Room:
    """One module of the package.

    Attributes
    ----------
    path
        Relative to the checkout.
    name
        Dotted.
    tree
        Its syntax.
    """

    path: Path
    name: str
    tree: ast.Module


def rooms(checkout: Path) -> list[Room]:
    """Return the modules of a checkout's package."""
    found = []
    for path in sorted((checkout / "estheory").rglob("*.py")):
        relative = path.relative_to(checkout)
        name = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
        found.append(Room(path=relative, name=name, tree=ast.parse(path.read_text(encoding="utf-8"))))
    return found


def docstrings(tree: ast.Module) -> Iterator[ast.Expr]:
    """Yield the docstrings of a module, its classes and functions, and of its constants."""
    for node in ast.walk(tree):
        for statement in node.body if isinstance(node, Documented) else []:
            text = statement.value if isinstance(statement, ast.Expr) else None
            if isinstance(statement, ast.Expr) and isinstance(text, ast.Constant) and isinstance(text.value, str):
                yield statement


def lines_of(tree: ast.Module) -> tuple[int, int]:
    """Return the numbers of lines of code (without blank ones, comments and docstrings) and of docstrings."""
    texts = {n for d in docstrings(tree) for n in range(d.lineno, (d.end_lineno or d.lineno) + 1)}
    code: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.expr | ast.stmt | ast.arg | ast.alias | ast.keyword | ast.excepthandler):
            if isinstance(node, ast.expr) or not hasattr(node, "body"):
                code.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
            else:
                code.add(node.lineno)
    return len(code - texts), len(texts)


def public_names(tree: ast.Module) -> list[str]:
    """Return the functions, classes and constants that a module defines without a leading underscore."""
    found = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.append(node.name)
        elif isinstance(node, ast.Assign):
            found += [t.id for t in node.targets if isinstance(t, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.append(node.target.id)
    return [name for name in found if not name.startswith("_")]


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function and method."""
    return (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the number of parameters of a function, ``self`` and ``cls`` not counted."""
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return sum(a.arg not in ("self", "cls") for a in arguments)


def circles(house: list[Room]) -> list[list[str]]:
    """Return the groups of modules that import each other, imports within functions among them."""
    names = {room.name for room in house}
    arrows: dict[str, set[str]] = {}
    for room in house:
        to = arrows.setdefault(room.name, set())
        for node in ast.walk(room.tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                to |= {f"{node.module}.{a.name}" for a in node.names} | {node.module}
            elif isinstance(node, ast.Import):
                to |= {a.name for a in node.names}
        to &= names - {room.name}
    reach = {name: _reached(name, arrows) for name in arrows}
    groups = {frozenset({n} | {m for m in reach[n] if n in reach[m]}) for n in arrows}
    return sorted(sorted(group) for group in groups if len(group) > 1)


def _reached(start: str, arrows: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    left = [start]
    while left:
        for name in arrows.get(left.pop(), set()) - found:
            found.add(name)
            left.append(name)
    return found


def conditions(tree: ast.Module) -> Iterator[ast.expr]:
    """Yield whatever decides a branch, and comparisons that stand elsewhere, the outermost of each only."""
    inside: set[int] = set()
    for node in ast.walk(tree):
        tests: list[ast.expr] = []
        if isinstance(node, ast.If | ast.IfExp | ast.While | ast.Assert):
            tests = [node.test]
        elif isinstance(node, ast.comprehension):
            tests = list(node.ifs)
        elif isinstance(node, ast.Match):
            tests = [node.subject]
        elif isinstance(node, ast.Compare | ast.BoolOp) or (
            isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
        ):
            tests = [node]
        for test in tests:
            if id(test) not in inside:
                yield test
            inside |= {id(part) for part in ast.walk(test)}


def asks_estimator(test: ast.expr) -> bool:
    """Say whether a condition asks for the shaping or for antithetic members of a configuration."""
    return any(
        (isinstance(node, ast.Attribute) and node.attr in ESTIMATOR_FIELDS)
        or (isinstance(node, ast.Name) and node.id in ESTIMATOR_FIELDS)
        for node in ast.walk(test)
    )


def estimator_branches(house: list[Room]) -> list[str]:
    """Return the places outside the estimators that branch on shaping or antithetic."""
    return [
        f"{room.path}:{test.lineno}"
        for room in house
        if not room.name.startswith("estheory.theory.estimators")
        for test in conditions(room.tree)
        if asks_estimator(test)
    ]


def run_lookups(house: list[Room]) -> list[str]:
    """Return the places outside ``runs`` that look up a run's configuration by a string."""
    return [
        f"{room.path}:{node.lineno}"
        for room in house
        if not room.name.startswith(("estheory.runs", "estheory.models"))  # a model's config.json is no run's
        for node in ast.walk(room.tree)
        if (looked := _looked_up(node)) is not None and _is_configuration(looked)
    ]


def _looked_up(node: ast.AST) -> ast.expr | None:
    """Return X of ``X["name"]`` and ``X.get("name")``."""
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        value, key = node.value, node.slice
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get" and node.args:
        value, key = node.func.value, node.args[0]
    else:
        return None
    return value if isinstance(key, ast.Constant) and isinstance(key.value, str) else None


def _is_configuration(value: ast.expr) -> bool:
    name = value.attr if isinstance(value, ast.Attribute) else value.id if isinstance(value, ast.Name) else ""
    return name in RUN_FIELDS


def options_of_commands(checkout: Path) -> dict[str, int]:
    """Return the number of options of each command, as the program itself lists them."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(
        [sys.executable, "-c", LIST_OPTIONS], cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        return {}
    found: dict[str, int] = json.loads(done.stdout)
    return found


def main() -> int:
    """Print the figures of a checkout."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("checkout", nargs="?", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--where", action="store_true", help="list the places too")
    given = parser.parse_args()
    checkout: Path = given.checkout.resolve()
    house = rooms(checkout)
    if not house:
        print(f"error: {checkout} has no package estheory", file=sys.stderr)
        return 2
    sizes = [lines_of(room.tree) for room in house]
    everything = [node for room in house for node in functions(room.tree)]
    many = [
        f"{room.path}:{node.lineno} {node.name} ({parameters(node)})"
        for room in house
        for node in functions(room.tree)
        if parameters(node) > MANY_PARAMETERS
    ]
    branches, lookups, round_trips = estimator_branches(house), run_lookups(house), circles(house)
    classes = [n for room in house for n in ast.walk(room.tree) if isinstance(n, ast.ClassDef)]
    figures = {
        "modules": len(house),
        "code lines": sum(code for code, _ in sizes),
        "docstring lines": sum(text for _, text in sizes),
        "longest module (code lines)": max(code for code, _ in sizes),
        "classes": len(classes),
        "public names in modules": sum(len(public_names(room.tree)) for room in house),
        f"functions over {MANY_PARAMETERS} parameters": f"{len(many)} of {len(everything)}",
        "import circles": len(round_trips),
        "branches on shaping or antithetic outside the estimators": (
            f"{len(branches)} in {len({place.split(':')[0] for place in branches})} files"
        ),
        "string look-ups of a run's configuration outside runs": (
            f"{len(lookups)} in {len({place.split(':')[0] for place in lookups})} files"
        ),
    }
    for name, value in figures.items():
        print(f"{name:<58} {value:>12}")
    options = options_of_commands(checkout)
    print("options per command: " + ", ".join(f"{name} {count}" for name, count in options.items()))
    if given.where:
        print("\nbranches on shaping or antithetic:")
        for place, count in Counter(place.split(":")[0] for place in branches).most_common():
            print(f"  {count:3} {place}: lines {', '.join(p.split(':')[1] for p in branches if p.startswith(place))}")
        for title, places in (("look-ups", lookups), ("many parameters", many)):
            print(f"\n{title}:", *places, sep="\n  ")
        print("\ncircles:", *(" <-> ".join(group) for group in round_trips), sep="\n  ")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
