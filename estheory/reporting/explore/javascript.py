"""From the page's formulas to JavaScript functions."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from sympy.printing.jscode import JavascriptCodePrinter

from estheory._special import normal_nodes
from estheory.derivations.algebra import Expr, sp
from estheory.derivations.printing import without_overflow
from estheory.reporting.explore.formulas import INPUTS, STEPS, carried, formulas

OTHER_SIGMA = sp.Symbol("to", positive=True)


class _Printer(JavascriptCodePrinter):  # type: ignore[misc]  # sympy carries no types: its classes are Any
    """Prints with the page's special functions: ratios of Gammas and quantiles."""

    def __init__(self) -> None:
        super().__init__(
            {
                "user_functions": {
                    name: name for name in ("chiSquareQuantile", "mixedChiSquareQuantile", "studentQuantile")
                }
            }
        )

    def _print_RisingFactorial(self, expr: Expr) -> str:  # noqa: N802
        start, length = expr.args
        if length != sp.Rational(1, 2):
            raise NotImplementedError(f"no JavaScript for {expr}")
        return f"gammaHalfRatio({self._print(start)})"


def _text(expression: Expr) -> str:
    names = {symbol: sp.Symbol(f"x.{name}") for name, symbol in INPUTS.items()}
    text: Any = _Printer().doprint(without_overflow(expression).xreplace(names))
    if "Not supported" in text:
        raise NotImplementedError(f"no JavaScript for {expression}: {text}")
    return " ".join(str(text).split())


def _function(lines: dict[str, Expr], arguments: str) -> str:
    body = [f"  const {name} = {_text(expression)};" for name, expression in lines.items()]
    return "\n".join([f"({arguments}) => {{", *body, f"  return {{ {', '.join(lines)} }};", "}"])


def asset(name: str) -> str:
    """Return a file of this folder."""
    return files("estheory.reporting.explore").joinpath(name).read_text(encoding="utf-8")


def model() -> str:
    """Return the special functions, ``MODEL[shaping](x)`` with all formulas at the inputs x, and ``carried(x, to)``."""
    shaped = [f'"{shaping}": {_function(formulas(shaping), "x")}' for shaping in STEPS]
    carry = _function(carried(OTHER_SIGMA), "x, to")
    nodes, weights = (json.dumps(numbers.tolist()) for numbers in normal_nodes())
    quadrature = f"const NORMAL_NODES = {nodes};\nconst NORMAL_WEIGHTS = {weights};\n"
    return (
        f"{asset('special.js')}{quadrature}const MODEL = {{\n"
        + ",\n".join(shaped)
        + f"\n}};\nconst carried = {carry};\n"
    )
