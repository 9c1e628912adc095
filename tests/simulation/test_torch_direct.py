"""The direct engine on torch against the numpy engine: the same law, and its step is the algorithm."""

import numpy as np
import pytest

from estheory.errors import ConfigError
from estheory.landscape import Landscape
from estheory.rules import ESConfig
from estheory.simulation.direct import direct
from estheory.simulation.engine import simulate
from tests.simulation.test_engines import CURVED, SMALL, differences

torch = pytest.importorskip("torch")

from estheory.simulation.torch_direct import TorchES, direct_on_device  # noqa: E402


@pytest.mark.parametrize("change", [{}, {"antithetic": True}, {"momentum": 0.5, "anchor_l2": 0.1}], ids=str)
def test_torch_is_numpy_in_law(change):
    config = ESConfig(**(SMALL | change))
    one = direct(config, CURVED, replicas=4000, steps=[5, 15], seed=1)
    two = direct_on_device(config, CURVED, replicas=4000, steps=[5, 15], seed=2)
    assert one.start_reward == pytest.approx(two.start_reward)
    assert differences(one, two) == []


def test_negative_control():
    one = direct(ESConfig(**SMALL), CURVED, replicas=4000, steps=[5, 15], seed=1)
    for wrong in ({"alpha": 0.3 * 1.05}, {"sigma": 0.36}):
        assert differences(
            one, direct_on_device(ESConfig(**(SMALL | wrong)), CURVED, replicas=4000, steps=[5, 15], seed=2)
        )


@pytest.mark.parametrize("form", ["before", "after"])
def test_step_is_the_algorithm(form):
    """The displacement is the sum of the members' noise by their z-scores, from the device's own noise."""
    config = ESConfig(**(SMALL | {"anchor_l2": 0.2, "anchor_form": form}))
    cpu = torch.device("cpu")
    es, twin = (TorchES(config, CURVED, 2, np.random.SeedSequence(4), cpu) for _ in range(2))
    lam = np.concatenate([[2.0], np.full(7, 0.5), np.full(8, 1.0), np.zeros(44)])
    optimum = np.concatenate([[0.1], np.full(7, 0.6), np.zeros(52)])
    theta = np.zeros((2, 60))
    for _ in range(2):
        eps = twin._draw(8).double().numpy()
        rewards = -0.5 * np.square(theta[:, None] + config.sigma * eps - optimum) @ lam
        rewards += CURVED.reward_std * twin.reward_rng.standard_normal(rewards.shape)
        z = (rewards - rewards.mean(1, keepdims=True)) / rewards.std(1, keepdims=True)
        update = config.alpha / 8 * np.einsum("rn,rnd->rd", z, eps)
        theta = 0.8 * (theta + update) if form == "after" else 0.8 * theta + update
        es.step()
        np.testing.assert_allclose(es.displacement, theta, rtol=2e-5, atol=2e-6)


def test_noise_drawn_twice_is_the_noise_of_the_rewards():
    """In pieces: the update along the gradient is the projection of the very noise that made the rewards."""
    land = Landscape(dim=400, eigenvalue=[1e-6], multiplicity=[1], offset=[1e6], reward_std=0.0)  # nearly linear
    config = ESConfig(dim=400, sigma=0.1, alpha=0.1, population=8)
    cpu = torch.device("cpu")
    es = TorchES(config, land, 2, np.random.SeedSequence(3), cpu, buffer_normals=2 * 3 * 400)
    assert es.at_once == 3
    twin = TorchES(config, land, 2, np.random.SeedSequence(3), cpu, buffer_normals=2 * 3 * 400)
    eps = np.concatenate([twin._draw(size).double().numpy() for size in (3, 3, 2)], axis=1)
    es.step()
    np.testing.assert_allclose(es.displacement[:, 0], 0.1 * eps[:, :, 0].std(axis=1), rtol=1e-5)


def test_seeds():
    config = ESConfig(**SMALL)
    one, same, other = (simulate(config, CURVED, replicas=3, seed=s, device="cpu") for s in (7, 7, 8))
    assert np.array_equal(one.gram, same.gram)
    assert not np.array_equal(one.gram, other.gram)


def test_refusals():
    config = ESConfig(**SMALL)
    for change, device, engine in (
        ({"anchor_l1": 0.1}, "cpu", "direct"),
        ({}, "cpu", "reduced"),
        ({}, "abacus", "direct"),
    ):
        with pytest.raises(ConfigError):
            simulate(ESConfig(**(SMALL | change)), CURVED, replicas=2, device=device, engine=engine)
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="not available"):
            simulate(config, CURVED, replicas=2, device="cuda")
