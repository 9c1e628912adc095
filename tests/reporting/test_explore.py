"""The what-if page without a browser: its formulas against `predict`, in Python and in node; its special functions."""

import json
import math
import re
import shutil
import subprocess

import mpmath
import pytest
import scipy.special
import sympy as sp

from estheory._special import chi_square_quantile, chi_square_tails, gamma_half_ratio, normal_quantile
from estheory.derivations.printing import without_overflow
from estheory.landscape import linear_signal
from estheory.laws import ChiLaw
from estheory.reporting.explore.formulas import INPUTS, STEPS, carried, formulas
from estheory.reporting.explore.javascript import asset, model
from estheory.reporting.explore.page import explore_page
from tests.reporting import explore_settings as drawn

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="no node is installed")
SPECIAL = {
    "chiSquareQuantile": chi_square_quantile,
    "mixedChiSquareQuantile": lambda p, n, m: ChiLaw(1.0, n, m).quantile(p) ** 2,
    "studentQuantile": lambda p, df: float(scipy.special.stdtrit(df, p)),
    "RisingFactorial": lambda start, length: float(scipy.special.poch(start, length)),
}


@pytest.fixture(scope="module")
def settings():
    return drawn.settings()


@pytest.fixture(scope="module")
def expected(settings):
    return [drawn.python_numbers(setting) for setting in settings]


def evaluator(shaping):
    """Return the formulas of a shaping as a Python function of a setting."""
    names, results = list(INPUTS.values()), []
    for name, expression in formulas(shaping).items():
        call = sp.lambdify(names, without_overflow(expression), modules=[SPECIAL, "math"])
        results.append((name, call))
        names = [*names, sp.Symbol(name, positive=True)]

    def evaluate(setting):
        values = [setting[name] for name in INPUTS]
        for _, call in results:
            values.append(call(*values))
        return dict(zip([name for name, _ in results], values[len(INPUTS) :], strict=True))

    return evaluate


def test_the_settings_reach_what_differs(settings, expected):
    steered = [numbers for numbers in expected if not numbers["keeps_exact_law"]]
    assert 20 < len(steered) < 180
    assert {setting["shaping"] for setting in settings} == set(STEPS)
    assert sum(setting["steps"] == 1 for setting in settings) > 30


def test_formulas_are_those_of_predict(settings, expected):
    evaluators = {shaping: evaluator(shaping) for shaping in STEPS}
    found = [evaluators[setting["shaping"]](setting) for setting in settings]
    assert drawn.worst_difference(expected, found)[0] < 1e-9


def test_a_changed_formula_is_noticed(settings, expected):
    evaluators = {shaping: evaluator(shaping) for shaping in STEPS}
    found = [evaluators[setting["shaping"]](setting) for setting in settings]
    for name in set().union(*expected) - {"keeps_exact_law"}:
        changed = [{key: x * (1 + 1e-8 * (key == name)) for key, x in numbers.items()} for numbers in found]
        assert drawn.worst_difference(expected, changed)[0] > 1e-9, name


def javascript(code, values):
    """Return what the page's code makes of some values, in node."""
    program = f"{code}\nconsole.log(JSON.stringify(INPUT.map(CALL)));"
    lines = f"const INPUT = {json.dumps(values)};\n{model()}\n{program}"
    answer = subprocess.run([NODE, "-"], input=lines, capture_output=True, text=True, check=False, timeout=60)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


@needs_node
def test_javascript_is_predict(settings, expected):
    found = javascript("const CALL = (x) => MODEL[x.shaping](x);", settings)
    assert drawn.worst_difference(expected, found)[0] < 1e-9


@needs_node
def test_moving_sigma_keeps_the_reward(settings):
    cases = [(setting, setting["sigma"] * 3) for setting in settings]
    found = javascript("const CALL = ([x, to]) => carried(x, to);", cases)
    for (setting, to), after in zip(cases, found, strict=True):
        share, spread = setting["reliability"], setting["member_std"]
        gradient = spread * math.sqrt(share) / setting["sigma"]
        signal = linear_signal(sigma=to, gradient_norm=gradient, reward_std=spread * math.sqrt(1 - share))
        assert after["reliability"] == pytest.approx(signal.reliability, rel=1e-12)
        assert after["member_std"] == pytest.approx(signal.member_std, rel=1e-12)
        assert after["gap"] == pytest.approx(9 * setting["gap"], rel=1e-12)
    assert set(carried(sp.Symbol("to"))) == set(found[0])


DEGREES = [0.5, 1, 2, 3.5, 10, 47, 300, 2500, 19_999, 20_001, 1e6, 4e9, 1e13]


@needs_node
def test_special_functions():
    halves = [0.5, 0.75, 1, 3.3, 29.9, 30, 1e3, 2e9, 1e12]
    found = javascript("const CALL = (x) => gammaHalfRatio(x);", halves)
    assert found == pytest.approx([gamma_half_ratio(x) for x in halves], rel=2e-15)
    exact = [float(mpmath.rf(x, 0.5)) for x in halves[:7]]
    assert found[:7] == pytest.approx(exact, rel=2e-15)

    chances = [1e-12, 1e-6, 0.025, 0.3, 0.5, 0.7, 0.975, 1 - 1e-6]
    found = javascript("const CALL = (p) => normalQuantile(p);", chances)
    assert found == pytest.approx([normal_quantile(p) for p in chances], rel=1e-14, abs=1e-15)

    points = [(p, df) for df in DEGREES for p in chances]
    found = javascript("const CALL = ([p, df]) => chiSquareQuantile(p, df);", points)
    assert found == pytest.approx([chi_square_quantile(p, df) for p, df in points], rel=1e-11)

    points = [(p, n, m) for n in (1e4, 4e9) for m in (1, 3, 500, 1e4, 1e7) for p in (0.025, 0.5, 0.975)]
    found = javascript("const CALL = ([p, n, m]) => mixedChiSquareQuantile(p, n, m);", points)
    assert found == pytest.approx([ChiLaw(1.0, n, m).quantile(p) ** 2 for p, n, m in points], rel=1e-10)

    places = [(df, df * (1 + z * math.sqrt(2 / df))) for df in DEGREES for z in (-4, -1, -0.01, 0.0, 0.01, 1, 6)]
    places = [(df, x) for df, x in places if x > 0]
    found = javascript("const CALL = ([df, x]) => gammaTails(df / 2, x / 2);", places)
    for tails, (df, x) in zip(found, places, strict=True):
        assert tails == pytest.approx(chi_square_tails(x, df), rel=2e-9), (df, x)

    points = [(p, df) for df in (1e3, 3e3, 1e5, 1e12) for p in (0.6, 0.975, 0.999)]
    found = javascript("const CALL = ([p, df]) => studentQuantile(p, df);", points)
    assert found == pytest.approx([float(scipy.special.stdtrit(df, p)) for p, df in points], rel=1e-11)


def test_formulas_are_printed_not_typed():
    """The page's own script evaluates no formula: it knows the shapings and the quantities by name alone."""
    own = asset("page.js")
    assert "gammaHalfRatio" not in own
    assert not re.search(r"Math\.(sqrt|pow|exp|log1p)", own)
    assert "MODEL[" in own


def test_the_page_is_one_small_file():
    page = explore_page()
    assert len(page.encode()) < 400_000
    assert not re.search(r"(?:src|href)=|https?://|@import|url\((?!#)", page)
    assert "<noscript>" in page
    assert "needs JavaScript" in page


def test_a_pilot_cannot_end_the_script():
    page = explore_page({"schema": "estheory/pilot/1", "because": "</script><script>alert(1)</script>"})
    assert page.count("</script>") == 2
