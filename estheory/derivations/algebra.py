"""The one place where sympy and mpmath, which carry no types, enter: evaluation to 50 digits, and a zero test."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeAlias

import mpmath
import sympy
from sympy.printing.pycode import MpmathPrinter

sp: Any = sympy
Expr: TypeAlias = Any
"""A sympy expression, symbol or equation."""

DIGITS = 50
GUARD = 15
"""Digits carried beyond the ones that are asked for."""


class _Printer(MpmathPrinter):  # type: ignore[misc]  # sympy carries no types: its classes are Any
    """Prints expressions for mpmath, with infinite sums added up term by term and Kronecker's delta."""

    def _print_Sum(self, expr: Expr) -> str:  # noqa: N802
        body = str(self._print(expr.function))
        for index, low, high in expr.limits:
            k, a = self._print(index), self._print(low)
            if high == sp.oo:
                body = f"sum_while(lambda {k}: {body}, int({a}))"
            else:
                body = f"builtins.sum({body} for {k} in range(int({a}), int({self._print(high)}) + 1))"
        return body

    def _print_Integral(self, expr: Expr) -> str:  # noqa: N802
        if expr.limits[0][1:] == (-sp.oo, sp.oo) and len(expr.limits) == 1:
            variable = self._print(expr.limits[0][0])
            return f"over_line(lambda {variable}: {self._print(expr.function)})"
        return str(super()._print_Integral(expr))

    def _print_KroneckerDelta(self, expr: Expr) -> str:  # noqa: N802
        first, second = (self._print(argument) for argument in expr.args)
        return f"(mpf(1) if {first} == {second} else mpf(0))"


def _sum_while(term: Any, start: int) -> Any:
    """Return the infinite sum of terms of one sign that fall faster than a power, to working precision."""
    total, k = mpmath.mpf(0), start
    while True:
        value = term(k)
        total += value
        if k > start + 3 and abs(value) <= abs(total) * mpmath.mpf(10) ** -(DIGITS + GUARD):
            return total
        k += 1


def _over_line(function: Any) -> Any:
    """Return the integral over the real line of an analytic function that falls like a Gaussian of unit scale.

    By trapezoids, which are exponentially accurate there: 1e-130 at this spacing.
    """
    step = mpmath.mpf(1) / 8
    return step * mpmath.fsum(function(k * step) for k in range(-20 * 8, 20 * 8 + 1))


def numeric(expression: Expr, values: Mapping[Expr, float | int]) -> Any:
    """Return the value of an expression in arithmetic of 50 digits: integrals by quadrature, sums term by term.

    `expression`: free of symbols other than the keys of ``values``.
    """
    return _numeric(expression, tuple(values.items()))


@lru_cache(maxsize=4096)  # checking a derivation with one step changed repeats the others
def _numeric(expression: Expr, values: tuple[tuple[Expr, float | int], ...]) -> Any:
    names = {symbol: sp.Symbol(f"value_{i}") for i, (symbol, _) in enumerate(values)}
    expression = expression.replace(lambda part: part.is_Derivative, lambda part: part.doit())
    # not sympy's lambdify: it prints the expression in its docstring, ordered by the value of every integral
    code = _Printer({"fully_qualified_modules": False, "order": "none"}).doprint(expression.xreplace(names))
    with mpmath.workdps(DIGITS + GUARD):
        space = {**vars(mpmath), "builtins": builtins, "sum_while": _sum_while, "over_line": _over_line}
        space |= {names[symbol].name: mpmath.mpf(value) for symbol, value in values}
        return +mpmath.mpmathify(eval(code, space))


def numerically_equal(left: Expr, right: Expr, values: Mapping[Expr, float | int], digits: int = 40) -> bool:
    """Say whether two expressions agree at some numbers, computed with 50 digits."""
    with mpmath.workdps(DIGITS):
        a, b = numeric(left, values), numeric(right, values)
        return bool(abs(a - b) <= mpmath.mpf(10) ** -digits * max(abs(a), abs(b)))


def simplifies_to_zero(expression: Expr) -> bool:
    """Say whether simplification leaves nothing of an expression."""
    return bool(sp.simplify(expression) == 0)


def unknowns(expression: Expr) -> set[Expr]:
    """Return the free symbols, and the functions without an expression, such as z(R)."""
    return set(expression.free_symbols | expression.atoms(sp.core.function.AppliedUndef))


def equation(left: Expr, right: Expr) -> Expr:
    """Return left = right, kept as written."""
    return sp.Eq(left, right, evaluate=False)
