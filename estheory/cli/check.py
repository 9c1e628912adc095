"""``estheory check``: whether an estimator keeps its invariants."""

# no postponed annotations: see options.py

import contextlib
import importlib
import inspect
import math
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from estheory.cli.emit import show
from estheory.cli.es_options import require_given
from estheory.cli.options import ANCHORS, Command, ConfigOptions, TableOptions, options, program
from estheory.errors import ConfigError, DataError
from estheory.rules import ESConfig

if TYPE_CHECKING:
    from estheory.reporting.text.tables import Sheet
    from estheory.testing import Outcome

app = program()

RULE = ConfigOptions(
    ESConfig,
    {
        "What it claims to be": ("dim", "sigma", "alpha", "population", "shaping", "antithetic", "noise"),
        ANCHORS: ("anchor_l2", "anchor_l1", "anchor_form", "momentum"),
    },
    help={"dim": "Number of parameters to check with (default 64)."},
)
"""The rule that the callable claims."""
Kind = Literal["shaping", "update", "step"]
KINDS: dict[int, Kind] = {1: "shaping", 2: "update", 3: "step"}
"""Kinds by their number of arguments."""


@app.command(cls=Command, epilog="estheory check mycode:update --sigma 0.02 --alpha 0.01 --population 30")
@options(RULE, TableOptions)
def check(
    given: Mapping[str, Any],
    common: TableOptions,
    target: Annotated[str, typer.Argument(metavar="MODULE:CALLABLE", help="Or FILE.py:CALLABLE.")],
    kind: Annotated[
        Kind | None,
        typer.Option(help="What it maps: rewards; rewards, noise; theta, reward, seed (default by its arguments)"),
    ] = None,
    shapes: Annotated[str | None, typer.Option(help="A step's tensors, e.g. 4x8,32: theta is a list of them.")] = None,
) -> None:
    """Check that an estimator keeps the invariants of the rule that it claims, and name the likely fault where not.

    Exit code 0 if all hold, 3 if one fails.
    """
    require_given(set(given), ("sigma", "population"))
    sizes = None if shapes is None else tensor_shapes(shapes)
    with contextlib.redirect_stdout(sys.stderr):  # what the module prints is no part of the result
        function = imported(target)
    chosen = kind or inferred(function)
    dim = 64 if sizes is None else sum(math.prod(shape) for shape in sizes)
    rule = ESConfig(**({"dim": dim} | dict(given)))
    from estheory.testing import checks
    from estheory.testing.failures import outcomes

    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the callable: a division by 0 comes out as a check that fails
        found = outcomes(checks(function, rule=rule, kind=chosen, shapes=sizes, seed=common.seed or 0))
    failed = [outcome for outcome in found if not outcome.holds]
    document = {
        "schema": "estheory/check/1",
        "callable": target,
        "kind": chosen,
        "config": {"dim": rule.dim, "sigma": rule.sigma, "alpha": rule.step_size, "population": rule.population}
        | {name: value for name, value in given.items() if name not in ("dim", "sigma", "alpha", "population")},
        "checks": [{"name": o.name, "claim": o.claim, "holds": o.holds, "problem": o.problem or None} for o in found],
        "summary": {"hold": len(found) - len(failed), "fail": len(failed)},
    }
    show(common, lambda: document, lambda: checks_sheet(target, found))
    if failed:
        raise typer.Exit(3)


def checks_sheet(target: str, found: list["Outcome"]) -> "Sheet":
    """Return a line for each invariant, then what is known of those that fail."""
    from estheory.reporting.text.tables import Sheet, Table

    failed = [outcome for outcome in found if not outcome.holds]
    table = Table("", "invariant", "claim", gap=2)
    for o in found:
        table.add_row("holds" if o.holds else "FAILS", o.name, o.claim)
    verdict = (
        f"{len(failed)} of {len(found)} invariants fail{'s' * (len(failed) == 1)}"
        if failed
        else f"all {len(found)} invariants hold"
    )
    return Sheet(f"{target}: {verdict}", table, *(outcome.problem for outcome in failed))


def imported(target: str) -> Any:
    """Return the callable that MODULE:CALLABLE names; the current folder is searched, too."""
    place, _, name = target.rpartition(":")
    if not place or not name:
        raise ConfigError(f"'{target}' names no callable", "give MODULE:CALLABLE or FILE.py:CALLABLE")
    folder, module = os.path.split(place) if place.endswith(".py") else ("", place)
    sys.path.insert(0, os.path.abspath(folder or "."))
    try:
        found: Any = importlib.import_module(module.removesuffix(".py"))
        for part in name.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        if error.name != module.removesuffix(".py"):
            raise DataError(f"{place} needs the module {error.name}", "install it") from None
        raise DataError(f"there is no module {place} here", "go to its folder, or give FILE.py:CALLABLE") from None
    except AttributeError:
        raise DataError(f"{place} has no {name}", "check the spelling") from None
    except (Exception, SystemExit) as error:
        told = f"{type(error).__name__}: {error}"
        raise DataError(f"importing {place} raised {told}", "make it importable by itself") from None
    finally:
        sys.path.pop(0)
    if not callable(found):
        raise ConfigError(f"{target} is a {type(found).__name__}", "name a function, or an object with __call__")
    return found() if inspect.isclass(found) else found


def inferred(function: Callable[..., Any]) -> Kind:
    """Return what a callable is by the number of arguments that it must be given."""
    try:
        needed = [
            p
            for p in inspect.signature(function).parameters.values()
            if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):
        needed = []
    kind = KINDS.get(len(needed))
    if kind is None:
        raise ConfigError(f"a callable of {len(needed)} arguments can be anything", "give --kind shaping|update|step")
    return kind


def tensor_shapes(text: str) -> tuple[tuple[int, ...], ...]:
    """Return shapes of a comma list such as 4x8,32."""
    try:
        shapes = tuple(tuple(int(size) for size in part.split("x")) for part in text.split(","))
    except ValueError:
        shapes = ((0,),)
    if any(size < 1 for shape in shapes for size in shape):
        raise ConfigError(f"--shapes '{text}' is not a list of shapes", "e.g. --shapes 4x8,32")
    return shapes
