"""How a derivation is written: text for people, LaTeX, and a Python function."""

from __future__ import annotations

import textwrap
from functools import reduce
from typing import Any

from sympy.printing.numpy import SciPyPrinter

from estheory.derivations.algebra import Expr, sp
from estheory.derivations.derivation import Derivation, Step

WIDTH = 100
HALF = sp.Rational(1, 2)
SERIES_TERMS = 2000
"""Terms of an infinite sum in generated code."""


class _Printer(SciPyPrinter):  # type: ignore[misc]  # sympy carries no types: its classes are Any
    """Prints functions of numbers: math for elementary functions, generator sums, pochhammer for ratios of Gammas."""

    def __init__(self) -> None:
        super().__init__({"fully_qualified_modules": True})

    def _print_Sum(self, expr: Expr) -> str:  # noqa: N802
        body = str(self._print(expr.function))
        for index, low, high in expr.limits:
            end = SERIES_TERMS if high == sp.oo else f"int({self._print(high)}) + 1"
            body = f"sum({body} for {self._print(index)} in range({self._print(low)}, {end}))"
        return f"({body})"


def _half_ratios(product: Expr) -> Expr:
    """Return ``product`` with Gamma(b + 1/2)/Gamma(b) as the Pochhammer symbol (b)_(1/2).

    The Gammas overflow at 1e3 and their ratio does not: scipy.special.poch is accurate at 1e12.
    """
    gammas = {base.args[0]: power for base, power in product.as_powers_dict().items() if base.func == sp.gamma}
    for upper in [argument for argument, power in gammas.items() if power > 0]:
        for lower in [argument for argument, power in gammas.items() if power == -gammas[upper]]:
            difference = sp.simplify(upper - lower)
            if abs(difference) == HALF:
                ratio = sp.RisingFactorial(lower, HALF) if difference > 0 else 1 / sp.RisingFactorial(upper, HALF)
                product = product * (sp.gamma(lower) / sp.gamma(upper) * ratio) ** gammas.pop(upper)
                del gammas[lower]
                break
    return product


def without_overflow(expression: Expr) -> Expr:
    """Return an expression whose ratios of Gammas are Pochhammer symbols."""
    return expression.replace(lambda part: part.is_Mul, _half_ratios)


def python_text(derivation: Derivation) -> str:
    """Return the source of a function of the result's inputs that needs math, numpy and scipy at most."""
    names = {n.symbol: sp.Symbol(n.argument) for n in derivation.inputs}
    expression = without_overflow(derivation.result).xreplace(names)
    printer = _Printer()
    body = printer.doprint(expression)
    imports = "".join(f"import {module}\n" for module in sorted(printer.module_imports))
    name = derivation.name.replace("-", "_")
    arguments = ", ".join(n.argument for n in derivation.inputs)
    notes = [f"    {n.argument}: {n.meaning} [{n.unit}]" for n in derivation.inputs]
    lines = [
        f"def {name}({arguments}):",
        f'    """{derivation.title} ({derivation.label}; {derivation.source}).',
        "",
        *notes,
        '    """',
        f"    return {body}",
    ]
    return (imports + "\n\n" if imports else "") + "\n".join(lines) + "\n"


def latex_of(derivation: Derivation, expression: Expr) -> str:
    """Return an expression or equation in LaTeX."""
    return str(sp.latex(expression, symbol_names={n.symbol: n.latex for n in derivation.symbols}))


def line_of(expression: Expr) -> str:
    """Return an expression or equation on one line."""
    if isinstance(expression, sp.Eq):
        return f"{sp.sstr(expression.lhs)} = {sp.sstr(expression.rhs)}"
    return str(sp.sstr(expression))


def _pretty(expression: Expr) -> str:
    return str(sp.pretty(expression, use_unicode=True, wrap_line=True, num_columns=WIDTH - 5))


def _wrapped(text: str, indent: str, hang: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent + hang)


def text(derivation: Derivation) -> str:
    """Return the derivation for people.

    Result: lines of at most ``WIDTH`` characters, but for wide equations.
    """
    lines = [derivation.title, "=" * len(derivation.title), ""]
    for number, step in enumerate(derivation.steps, start=1):
        kind = "Let" if step.check == "definition" else "Then"
        lines += [f"{number}. {kind}", *textwrap.indent(_pretty(step.equation), "     ").splitlines(), ""]
        lines += [*_wrapped(step.justification, "   "), ""]
    lines += ["Result", "", *textwrap.indent(_pretty(derivation.result), "     ").splitlines(), ""]
    width = max(len(n.name) for n in derivation.symbols)
    lines.append("Symbols")
    for n in derivation.symbols:
        argument = f"  ({n.argument})" if n.argument else ""
        unit = "" if n.unit == "1" else f", {n.unit}"
        lines += _wrapped(f"{n.name:<{width}}  {n.meaning}{unit}{argument}", "  ", " " * (width + 2))
    lines += ["", "Assumptions", *(line for a in derivation.assumptions for line in _wrapped(f"- {a}", "  ", "  "))]
    lines += ["", f"Label      {derivation.label}", f"Source     {derivation.source}"]
    lines += [f"Evaluator  {derivation.evaluator.name}"]
    return "\n".join(lines) + "\n"


def latex(derivation: Derivation) -> str:
    """Return the derivation as a LaTeX fragment: one displayed equation and one sentence per step."""
    parts = [rf"\subsection*{{{_escaped(derivation.title)}}}", r"\begin{enumerate}"]
    for step in derivation.steps:
        parts += [r"\item", r"\[", latex_of(derivation, step.equation), r"\]", _escaped(step.justification)]
    assumed = "; ".join(derivation.assumptions)
    parts += [
        r"\end{enumerate}",
        _escaped(f"Assumptions: {assumed}. Label: {derivation.label}. {derivation.source}."),
        "",
    ]
    return "\n".join(parts)


def markdown(derivation: Derivation) -> str:
    """Return the derivation as Markdown with formulas between dollars."""
    lines = [f"### {derivation.title}", ""]
    for number, step in enumerate(derivation.steps, start=1):
        lines += [f"{number}. {step.justification}", "", f"    $${latex_of(derivation, step.equation)}$$", ""]
    assumed = "; ".join(derivation.assumptions)
    lines.append(f"Assumptions: {assumed}. Label: {derivation.label}. {derivation.source}.")
    return "\n".join(lines) + "\n"


def _escaped(prose: str) -> str:
    table = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special = {character: f"\\{character}" for character in "#$%&_{}"}
    return reduce(lambda done, c: done + ({**table, **special}.get(c, c)), prose, "")


def document(derivation: Derivation) -> dict[str, Any]:
    """Return the derivation as the JSON document estheory/derivation/1."""

    def row(step: Step) -> dict[str, str]:
        return {
            "equation": line_of(step.equation),
            "latex": latex_of(derivation, step.equation),
            "justification": step.justification,
            "check": step.check,
        }

    return {
        "schema": "estheory/derivation/1",
        "name": derivation.name,
        "title": derivation.title,
        "label": derivation.label,
        "source": derivation.source,
        "assumptions": list(derivation.assumptions),
        "symbols": [
            {"name": n.name, "latex": n.latex, "meaning": n.meaning, "unit": n.unit, "argument": n.argument or None}
            for n in derivation.symbols
        ],
        "steps": [row(step) for step in derivation.steps],
        "result": {
            "text": line_of(derivation.result),
            "latex": latex_of(derivation, derivation.result),
            "python": python_text(derivation),
        },
        "evaluator": derivation.evaluator.name,
    }
