"""AdamW's walk against AdamW itself: torch's own optimiser on dense Gaussian gradients, and a plain loop."""

import numpy as np
import pytest

from estheory.errors import ConfigError
from estheory.theory.adamw import (
    decayed_rates,
    grpo_mean_square,
    learning_rates,
    steered_mean_square,
    walk_factor,
)
from tests.statistics import agrees


def adamw_displacement(rates, draw, beta1=0.9, beta2=0.999):
    """Final displacement of independent coordinates under AdamW without weight decay, written from its definition."""
    first = second = position = 0.0
    for t, rate in enumerate(rates, start=1):
        gradient = draw()
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient**2
        root = np.sqrt(second / (1 - beta2**t))
        position = position + rate * np.divide(first / (1 - beta1**t), root, out=np.zeros_like(root), where=root > 0)
    return position


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("steps", [2, 10, 80])
def test_walk_factor(schedule, steps):
    rng = np.random.default_rng(steps)
    rates = learning_rates(steps, schedule)
    squares = adamw_displacement(rates, lambda: rng.standard_normal(60_000)) ** 2 / (rates @ rates)
    k = walk_factor(rates)
    assert agrees(squares, k)
    assert not agrees(squares, 1.05 * k)
    assert not agrees(squares, 0.95 * k)


def test_a_single_step_moves_every_coordinate_by_the_learning_rate():
    assert walk_factor(learning_rates(1)) == pytest.approx(1, rel=1e-14)


def test_other_betas():
    rng = np.random.default_rng(0)
    rates = learning_rates(60, "constant")
    squares = adamw_displacement(rates, lambda: rng.standard_normal(60_000), 0.8, 0.99) ** 2 / 60
    assert (
        abs(squares.mean() / walk_factor(rates, beta1=0.8, beta2=0.99) - 1) < 0.03
    )  # mean-field: v averages 100 steps
    assert abs(squares.mean() / walk_factor(rates) - 1) > 0.05


def test_steps_without_a_gradient_move_by_momentum_alone():
    rng, rates = np.random.default_rng(11), learning_rates(60, "linear")
    often, late = np.random.default_rng(12).random(60) < 0.5, np.arange(60) >= 30
    for active in (often, late):
        draws = iter(active)
        squares = adamw_displacement(rates, lambda d=draws: next(d) * rng.standard_normal(40_000)) ** 2
        expected = walk_factor(rates, active=active) * (rates @ rates)
        assert abs(squares.mean() / expected - 1) < 0.03  # mean-field: v remembers pauses unevenly
    assert abs(squares.mean() / (walk_factor(rates) * (rates @ rates)) - 1) > 0.2  # control: all steps
    assert walk_factor(rates, active=np.zeros(60)) == 0.0
    assert walk_factor(rates, active=np.ones(60)) == walk_factor(rates)


def test_weight_decay_and_warm_up():
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    start, decay, steps = 0.3, 2.0, 40
    weight = torch.nn.Parameter(torch.full((60_000,), start))
    rates = 0.01 * learning_rates(steps, "cosine", warmup=8)
    assert rates[0] == 0.0
    assert rates[8] == rates.max() == 0.01
    optimiser = torch.optim.AdamW([weight], lr=1.0, weight_decay=decay)
    for rate in rates:
        optimiser.param_groups[0]["lr"] = float(rate)
        weight.grad = torch.randn(60_000)
        optimiser.step()
    moved = weight.detach().double().numpy() - start
    left, lost = decayed_rates(rates, decay)
    assert abs(moved.mean() + lost * start) < 6 * moved.std() / 60_000**0.5
    squares = (moved + lost * start) ** 2
    expected = walk_factor(left) * float(left @ left)
    assert abs(squares.mean() / expected - 1) < 0.03
    assert abs(squares.mean() / (walk_factor(rates) * float(rates @ rates)) - 1) > 0.05  # control: without decay
    with pytest.raises(ConfigError, match="weight decay"):
        decayed_rates(rates, 200.0)
    with pytest.raises(ConfigError, match="warm-up"):
        learning_rates(10, "linear", warmup=10)


def test_against_torch():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.zeros(60_000))
    optimiser = torch.optim.AdamW([weight], lr=1e-3, weight_decay=0.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda t: 1 - t / 30)
    for _ in range(30):
        weight.grad = torch.randn(60_000)
        optimiser.step()
        scheduler.step()
    squares = weight.detach().double().numpy() ** 2
    expected = grpo_mean_square(1, 1e-3, 30, "linear")
    assert agrees(squares, expected)
    assert not agrees(squares, grpo_mean_square(1, 1e-3, 30, "constant"))
    assert not agrees(squares, 2 * expected)


def test_reference_values_of_the_sheet():
    for steps, constant, linear in ((10, 1.42, 1.66), (80, 1.14, 1.42), (300, 1.04, 1.15)):
        # the sheet's own Monte Carlo, quoted to two decimals with an error of about 0.01
        assert walk_factor(learning_rates(steps, "constant")) == pytest.approx(constant, abs=0.015)
        assert walk_factor(learning_rates(steps, "linear")) == pytest.approx(linear, abs=0.015)


def test_bad_input():
    with pytest.raises(ConfigError, match="grpo-schedule"):
        learning_rates(10, "step")
    with pytest.raises(ConfigError, match="grpo-steps"):
        learning_rates(0)
    with pytest.raises(ConfigError, match="grpo-lr"):
        grpo_mean_square(10, -1e-3, 10)


@pytest.mark.parametrize("turning", [1.0, 0.9])
@pytest.mark.parametrize("signal", [0.1, 0.5])
def test_a_signal_adds_a_ballistic_part(signal, turning):
    rng, count = np.random.default_rng(3), 20_000
    mean = signal * rng.standard_normal(count)
    kappa = float(np.mean(mean**2 / (mean**2 + 1)))

    def draw():
        nonlocal mean  # the common part keeps its size and forgets its direction
        mean = turning * mean + np.sqrt(1 - turning**2) * signal * rng.standard_normal(count)
        return mean + rng.standard_normal(count)

    rates = learning_rates(100)
    squares = adamw_displacement(rates, draw) ** 2
    expected = steered_mean_square(1, 1.0, 100, kappa=kappa, turning=turning)
    assert abs(squares.mean() / expected - 1) < 0.12  # mean-field: v takes the whole run to average
    if signal == 0.5:  # controls
        assert abs(squares.mean() / steered_mean_square(1, 1.0, 100, kappa=0.0) - 1) > 0.12
        other = steered_mean_square(1, 1.0, 100, kappa=kappa, turning=0.9 if turning == 1 else 1.0)
        assert abs(squares.mean() / other - 1) > 0.12


def test_without_a_signal_it_is_the_walk():
    assert steered_mean_square(7, 1e-3, 50, kappa=0.0) == pytest.approx(grpo_mean_square(7, 1e-3, 50))
    with pytest.raises(ConfigError, match="kappa"):
        steered_mean_square(7, 1e-3, 50, kappa=1.5)
    with pytest.raises(ConfigError, match="followed"):
        steered_mean_square(7, 1e-3, 50_000, kappa=0.5)
