"""Random settings of the what-if page, and what the package's own Python says of each."""

import math
import random

from estheory import ESConfig, Quantity, linear_signal, predict
from estheory.cosine_laws import CosineLaw
from estheory.reporting.explore.formulas import STEPS
from estheory.theory.drift import kl_law
from estheory.theory.economy.update import best_step, largest_measured_alpha, update_cost, update_gain
from estheory.theory.walk import walk

RANGES = {
    "dim": (1e4, 1e13),
    "sigma": (1e-5, 0.1),
    "alpha": (1e-6, 0.1),
    "population": (2, 4096),
    "steps": (1, 1e5),
    "reliability": (1e-4, 0.999),
    "member_std": (1e-3, 10.0),
    "gap": (1e-6, 1.0),
    "fisher_trace": (1e-3, 1e6),
}
WHOLE = ("dim", "population", "steps")


def settings(count=200, seed=26):
    """Return settings whose numbers are log-uniform over their ranges; one in four is a single step."""
    rng = random.Random(seed)
    found = []
    for index in range(count):
        setting = {name: math.exp(rng.uniform(math.log(low), math.log(high))) for name, (low, high) in RANGES.items()}
        setting |= {name: round(setting[name]) for name in WHOLE}
        setting["shaping"] = list(STEPS)[index % len(STEPS)]
        if index % 16 < len(STEPS):
            setting["steps"] = 1
        found.append(setting)
    return found


def python_numbers(setting):
    """Return what ``predict`` and the economy of an update say, by the names of the page's formulas."""
    x = setting
    config = ESConfig(**{name: x[name] for name in ("dim", "sigma", "alpha", "population", "steps", "shaping")})
    signal = linear_signal(
        sigma=x["sigma"], reliability=x["reliability"], reward_std=x["member_std"] * math.sqrt(1 - x["reliability"])
    )
    forecast = predict(config, reward=signal)
    found = {
        str(p.quantity): p.law.mean
        for p in forecast.predictions
        if p.quantity
        in (
            Quantity.DISPLACEMENT_NORM,
            Quantity.COHERENT_DISPLACEMENT_BOUND,
            Quantity.SIGNAL_SHARE_BOUND,
            Quantity.ES_GRPO_COSINE_BOUND,
            Quantity.PROGRESS_PER_STEP,
            Quantity.REWARD_GAIN_PER_STEP,
        )
    }
    # of the walk alone, as the page says: predict gives none where the signal moves the run
    drift = kl_law(walk(config, signal, x["steps"]), fisher_trace=x["fisher_trace"])
    found["kl_drift"] = drift.mean
    if drift.std:
        found["kl_drift_low"], found["kl_drift_high"] = drift.interval(0.95)
    norm = forecast.get(Quantity.DISPLACEMENT_NORM)
    found["displacement_norm_low"], found["displacement_norm_high"] = norm.law.interval(0.95)
    found["keeps_exact_law"] = norm.label == "exact"
    found["cosine_noise"] = CosineLaw(0.0, 1.0, 1.0, x["dim"] - 1.0).interval(0.95)[1]
    square = x["member_std"] ** 2
    gain, cost = update_gain(config, x["reliability"] * square, square), update_cost(config, x["gap"], square)
    factor, net = best_step(gain, cost)
    if config.shaping == "zscore":
        found["largest_measured_alpha"] = largest_measured_alpha(
            sigma=x["sigma"], population=x["population"], reliability=x["reliability"]
        )
    return found | {
        "diffusion_cost_per_step": cost,
        "net_gain_per_step": gain - cost,
        "optimal_alpha": factor * x["alpha"],
        "best_net_gain": net,
    }


def worst_difference(expected, found):
    """Return the largest relative difference and of what; of net gains relative to gain and cost."""
    worst = (0.0, "")
    for right, numbers in zip(expected, found, strict=True):
        assert right.keys() <= numbers.keys()
        assert {name for name in numbers if name.endswith(("_low", "_high"))} <= right.keys()
        for name, value in right.items():
            scale = abs(value)
            if name == "net_gain_per_step":  # a difference of two numbers that may nearly cancel
                scale = max(right["reward_gain_per_step"], right["diffusion_cost_per_step"])
            worst = max(worst, (abs(numbers[name] - value) / (scale or 1.0), name))
    return worst
