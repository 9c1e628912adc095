"""Every step of every derivation holds, a changed one is noticed, and the results are what the evaluators compute."""

import dataclasses
import itertools
import math

import mpmath
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from estheory.derivations.algebra import equation, numeric, unknowns
from estheory.derivations.catalogue import derivations, derive
from estheory.derivations.printing import document, latex, python_text, text
from estheory.errors import ConfigError
from estheory.landscape import linear_signal
from estheory.quantities import Quantity
from estheory.rules import ESConfig
from estheory.theory.predictions import predict
from tests.variants import variants

ALL = derivations()
STEPS = [(name, i) for name, derivation in ALL.items() for i in range(len(derivation.steps))]
LAST = [(name, len(derivation.steps) - 1) for name, derivation in ALL.items()]
CHANGES = {
    "factor of 1.001": lambda right: right * (1 + sp.Rational(1, 1000)),
    "factor of 8/7": lambda right: right * sp.Rational(8, 7),
    "0.001 more": lambda right: right + sp.Rational(1, 1000),
}


def with_step(derivation, position, right):
    """Return the derivation with the right side of one step replaced."""
    steps = list(derivation.steps)
    changed = equation(steps[position].equation.lhs, right)
    steps[position] = dataclasses.replace(steps[position], equation=changed)
    return dataclasses.replace(derivation, steps=tuple(steps))


COSTLY = {
    *("progress", "quadratic-noise", "es-grpo-cosine", "signal-share", "coherent-bound"),
    *("rounding-signal", "rank-projection-variance", "step-norm-square-variance", "quadratic-displacement"),
    *(
        "antithetic-noise-curved",
        "own-length-square",
        "antithetic-progress",
        "projection-variance",
        "own-length-spread",
    ),
}
"""Nearly half a second or more each, for integrals to 50 digits."""
COSTLY_CHANGES = {"rounding-signal", "quadratic-displacement", "rank-projection-variance"}
COSTLY_TO_WRITE = {"step-norm-square-variance", "step-norm-square", "own-length-spread", "two-point-noise"}
COSTLY_TO_EVALUATE = {"antithetic-noise-curved", "antithetic-progress"}
"""The same where a step is changed, a document written, a result evaluated."""


@pytest.mark.parametrize("name", variants(ALL, fast=set(ALL) - COSTLY))
def test_every_step_follows(name):
    assert ALL[name].failures() == []


@pytest.mark.parametrize(
    "change", ["factor of 1.001", *(pytest.param(name, marks=pytest.mark.slow) for name in list(CHANGES)[1:])]
)
@pytest.mark.parametrize(
    "step",
    variants(STEPS, fast=[step for step in LAST if step[0] not in COSTLY_CHANGES]),
    ids=lambda step: f"{step[0]}-{step[1]}",
)
def test_a_changed_step_is_noticed(step, change):
    name, position = step
    derivation = ALL[name]
    wrong = CHANGES[change](derivation.steps[position].equation.rhs)
    failures = with_step(derivation, position, wrong).failures()
    # what a step asserts fails there; what it names fails where it is used
    assert failures
    assert min(failures) >= position + 1
    if derivation.steps[position].check != "definition":
        assert position + 1 in failures


@pytest.mark.parametrize("name", ALL)
def test_symbols_are_explained_and_used(name):
    derivation = ALL[name]
    used = set().union(*(unknowns(step.equation) for step in derivation.steps))
    assert used == {notation.symbol for notation in derivation.symbols}
    defined = {step.equation.lhs for step in derivation.steps if step.check == "definition"}
    assert defined == {notation.symbol for notation in derivation.symbols if not notation.argument}
    names = [notation.name for notation in derivation.symbols]
    arguments = [notation.argument for notation in derivation.symbols if notation.argument]
    assert len(set(names)) == len(names)
    assert len(set(arguments)) == len(arguments)
    assert all(notation.meaning and notation.unit and notation.latex for notation in derivation.symbols)
    assert all(step.justification for step in derivation.steps)
    assert derivation.assumptions
    assert derivation.steps[-1].check != "definition"


def exact(derivation, inputs):
    return numeric(derivation.result, {n.symbol: inputs[n.argument] for n in derivation.inputs})


def compare(derivation, values):
    evaluator = derivation.evaluator
    parameters = evaluator.parameters or derivation.inputs
    if not derivation.admits({n.symbol: values[n.argument] for n in parameters}):
        return False
    expected = exact(derivation, evaluator.inputs(values))
    value = evaluator.call(values)
    assert math.isfinite(value)
    assert abs(value - expected) <= evaluator.rtol * abs(expected), (values, value, expected)
    return True


@pytest.mark.parametrize("name", variants(ALL, fast=set(ALL) - COSTLY_TO_EVALUATE))
def test_the_evaluator_at_the_ends_of_its_range(name):
    derivation = ALL[name]
    parameters = derivation.evaluator.parameters or derivation.inputs
    corners = [
        dict(zip([n.argument for n in parameters], corner, strict=True))
        for corner in itertools.product(*(n.extreme for n in parameters))
    ]
    compared = [compare(derivation, corner) for corner in corners]
    assert any(compared)


@pytest.mark.parametrize("examples", [10, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", variants(ALL, fast=set(ALL) - COSTLY_TO_EVALUATE))
def test_the_evaluator_equals_the_result(name, examples):
    derivation = ALL[name]
    parameters = derivation.evaluator.parameters or derivation.inputs

    def range_of(notation):
        low, high = notation.extreme
        if notation.symbol.is_integer:
            return st.integers(int(low), int(high))
        return st.floats(math.log(low), math.log(high)).map(lambda x: min(max(math.exp(x), low), high))

    @settings(max_examples=examples)
    @given(st.fixed_dictionaries({n.argument: range_of(n) for n in parameters}))
    def agree(values):
        compare(derivation, values)

    agree()


@pytest.mark.parametrize("name", ALL)
def test_the_python_function_stands_alone(name):
    derivation = ALL[name]
    source = python_text(derivation)
    assert {line.split()[1].split(".")[0] for line in source.splitlines() if line.startswith("import")} <= {
        "math",
        "numpy",
        "scipy",
    }
    space = {}
    exec(source, space)
    function = space[name.replace("-", "_")]
    for draw in derivation.draws(5):
        values = {n.argument: draw[n.symbol] for n in derivation.inputs}
        # forty roundings of 53 bits, and what scipy's special functions lose
        assert function(**values) == pytest.approx(float(exact(derivation, values)), rel=1e-12)


def test_generated_ratios_of_gammas_survive_a_language_model():
    """Gamma(2e9) overflows; the generated code must not."""
    space = {}
    exec(python_text(ALL["norm-mean"]), space)
    value = space["norm_mean"](alpha=0.00075, population=30, dim=4_022_468_096, steps=100)
    assert value == pytest.approx(86.84542, abs=5e-6)
    exec(python_text(ALL["mean-cosine-two-point"]), space)
    assert space["mean_cosine_two_point"](population=96, dim=1.54e9) == pytest.approx(2.490e-4, abs=5e-8)


def test_reference_values():
    assert float(exact(ALL["c-of-n"], {"population": 30})) == pytest.approx(0.9748, abs=5e-5)
    assert float(exact(ALL["mean-cosine"], {"population": 8, "dim": 50})) == pytest.approx(0.34272, abs=5e-6)
    gains = [float(exact(ALL["rounding-gain"], {"update_in_spacings": x})) for x in (0.2, 0.25, 0.3, 0.5, 1, 3)]
    assert gains == pytest.approx([0.310, 0.728, 1.062, 1.302, 1.083, 1.009], abs=5e-4)
    kept = [float(exact(ALL["rounding-signal"], {"update_in_spacings": x})) for x in (0.2, 0.25, 0.3, 0.5, 1)]
    assert kept == pytest.approx([0.175, 0.432, 0.663, 0.986, 1.0], abs=5e-4)


def test_limits():
    """Results meet where they must: no pull, no momentum, no signal, many members."""
    one = {"alpha": 0.3, "population": 7, "steps": 5}
    walk = 0.09 * 5 / 7
    weak = float(exact(ALL["anchor-l2"], {**one, "anchor_l2": 1e-12}))
    assert weak == pytest.approx(walk, rel=1e-10)
    assert float(exact(ALL["ou-walk-limit"], one)) == pytest.approx(walk, rel=1e-14)
    light = float(exact(ALL["momentum-steps"], {"momentum": 1e-12, "steps": 5}))
    assert light == pytest.approx(5, rel=1e-11)
    step = {"alpha": 0.3, "population": 7, "dim": 11}
    none = float(exact(ALL["step-norm-square"], {**step, "correlation": 1e-12}))
    assert none == pytest.approx(float(exact(ALL["norm-mean-square"], {**step, "steps": 1})), rel=1e-14)
    many = float(exact(ALL["c-of-n"], {"population": 10**9}))
    assert 1 - many == pytest.approx(0.75e-9, rel=1e-3)
    settled = float(exact(ALL["anchor-l2-stationary"], {"alpha": 0.3, "population": 7, "anchor_l2": 0.05}))
    late = float(exact(ALL["anchor-l2"], {"alpha": 0.3, "population": 7, "anchor_l2": 0.05, "steps": 1000}))
    assert late == pytest.approx(settled, rel=1e-14)


def test_quadrature_is_as_good_as_it_says():
    """The trapezoids over the line and the term-by-term sums against closed forms, to 50 digits."""
    x, k = sp.Symbol("x", real=True), sp.Symbol("k", integer=True, positive=True)
    fourth = sp.Integral(x**4 * sp.exp(-(x**2) / 2) / sp.sqrt(2 * sp.pi), (x, -sp.oo, sp.oo))
    assert abs(numeric(fourth, {}) - 3) < mpmath.mpf(10) ** -50
    geometric = sp.Sum(sp.Rational(1, 3) ** k, (k, 1, sp.oo))
    assert abs(numeric(geometric, {}) - mpmath.mpf(1) / 2) < mpmath.mpf(10) ** -50


def test_definitions_may_not_repeat_or_run_ahead():
    derivation = ALL["flat-variance"]
    twice = dataclasses.replace(derivation, steps=(derivation.steps[0], *derivation.steps))
    assert 2 in twice.failures()
    ahead = dataclasses.replace(derivation, steps=derivation.steps[1:])
    assert 1 in ahead.failures()


@pytest.mark.parametrize("name", variants(ALL, fast=set(ALL) - COSTLY_TO_WRITE))
def test_documents(name):
    derivation = ALL[name]
    whole = document(derivation)
    assert whole["schema"] == "estheory/derivation/1"
    assert [set(step) >= {"equation", "latex", "justification"} for step in whole["steps"]] == [True] * len(
        derivation.steps
    )
    assert set(whole["result"]) == {"text", "latex", "python"}
    shown = text(derivation)
    for step in derivation.steps:
        assert " ".join(step.justification.split()) in " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 110
    written = latex(derivation)
    assert written.count(r"\item") == len(derivation.steps)
    assert written.count("{") == written.count("}")
    for notation in derivation.symbols:
        assert notation.latex in written


def test_evaluators_exist():
    from importlib import import_module

    for derivation in ALL.values():
        parts = derivation.evaluator.name.split(".")
        module = ".".join(parts[:2] if parts[1].startswith("_") or parts[1] == "cosine_laws" else parts[:3])
        found = import_module(module)
        for part in parts[len(module.split(".")) :]:
            found = getattr(found, part)
        assert callable(found) or isinstance(found, property)


def test_unknown_names_get_a_hint():
    with pytest.raises(ConfigError, match="did you mean progress"):
        derive("progres")
    with pytest.raises(ConfigError, match="--list"):
        derive("zzzz")


@pytest.mark.parametrize(
    ("quantity", "name"),
    [
        (Quantity.DISPLACEMENT_NORM, "norm-mean-square"),
        (Quantity.CHECKPOINT_COSINE, "checkpoint-cosine"),
        (Quantity.INDEPENDENT_COSINE, "independent-cosine"),
        (Quantity.PROGRESS_PER_STEP, "progress"),
        (Quantity.GRADIENT_COSINE, "mean-cosine"),
        (Quantity.COHERENT_DISPLACEMENT_BOUND, "coherent-bound"),
        (Quantity.SIGNAL_SHARE_BOUND, "signal-share"),
        (Quantity.ES_GRPO_COSINE_BOUND, "es-grpo-cosine"),
    ],
)
def test_a_prediction_names_the_source_of_its_derivation(quantity, name):
    run = ESConfig(dim=1000, sigma=0.01, population=30, steps=100)
    # with a signal the laws of the walk hold more than the walk, so that they have another label
    walk = quantity in (Quantity.DISPLACEMENT_NORM, Quantity.CHECKPOINT_COSINE, Quantity.INDEPENDENT_COSINE)
    reward = None if walk else linear_signal(sigma=0.01, reliability=0.3)
    forecast = predict(run, checkpoints=[50, 100], reward=reward)
    prediction = forecast.get(quantity)
    assert (prediction.source, prediction.label) == (ALL[name].source, ALL[name].label)
