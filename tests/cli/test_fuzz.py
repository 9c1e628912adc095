"""Whatever is typed, ``predict`` answers or says one line and exits with 2: never a traceback, never NaN."""

import json
import math

from hypothesis import given, settings
from hypothesis import strategies as h

from estheory.cli.app import main

NUMBER = h.one_of(
    h.sampled_from(
        ["0", "-1", "nan", "inf", "1e-320", "1e308", "1e-30", "1e30", "x", "", "1,2", "2.5", "0.5", "1", "30"]
    ),
    h.floats(1e-12, 1e6).map(str),
    h.integers(-2, 10**13).map(str),
)
OPTIONS = h.dictionaries(
    h.sampled_from(
        [
            *("alpha", "steps", "anchor-l2", "anchor-l1", "momentum", "reliability", "gradient-norm", "reward-std"),
            *("grpo-lr", "grpo-norm", "fisher-trace", "fisher-square-trace", "off-task-trace", "weight-std"),
        ]
    ),
    NUMBER,
    max_size=4,
)
SHAPING = h.sampled_from(["zscore", "centered-rank", "raw", "two-point"])
COUNT = h.one_of(NUMBER, h.integers(1, 10**13).map(str))


@settings(max_examples=150)
@given(
    dim=COUNT,
    sigma=NUMBER,
    population=h.one_of(NUMBER, h.integers(1, 300).map(str)),
    shaping=SHAPING,
    options=OPTIONS,
    antithetic=h.booleans(),
)
def test_predict_never_breaks(tmp_path_factory, dim, sigma, population, shaping, options, antithetic):
    target = tmp_path_factory.getbasetemp() / "fuzz.json"
    target.unlink(missing_ok=True)
    if options.get("steps", "1").isdigit() and int(options.get("steps", "1")) > 10_000:
        options = options | {"steps": "10000"}  # an anchor's response has one entry a step
    arguments = ["predict", f"--dim={dim}", f"--sigma={sigma}", f"--population={population}", f"--shaping={shaping}"]
    arguments += [f"--{name}={value}" for name, value in options.items()]
    arguments += ["--antithetic"] * antithetic + ["--json", "--output", str(target)]
    code = main(arguments)
    assert code in (0, 2)
    assert target.exists() == (code == 0)
    if code == 0:
        document = json.loads(target.read_text())
        for row in document.get("rows", [document]):
            for prediction in row["predictions"]:
                assert prediction["mean"] is not None
                assert math.isfinite(prediction["std"])
                low, high = prediction["interval"]
                assert low <= high
