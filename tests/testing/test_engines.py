"""The package's own engines and training pass the checks that everybody else's code gets."""

import math

import numpy as np
import pytest

from estheory.landscape import Landscape
from estheory.rules import ESConfig
from estheory.simulation.direct import DirectES
from estheory.simulation.rewards import explicit_reward
from estheory.simulation.update_steps import step_weights
from estheory.testing import check_step, check_update
from estheory.theory.estimators import estimator_of
from tests.testing.estimators import ALPHA, RULES, SIGMA, N


class Direct:
    """The direct engine on a reward of every coordinate: theta* is 0, so that theta is the distance from it."""

    def __init__(self, rule):
        self.rule = rule

    def __call__(self, theta, reward, seed):
        land = Landscape(
            dim=len(theta),
            eigenvalue=np.ones(len(theta)),
            multiplicity=np.ones(len(theta)),
            offset=np.ones(len(theta)),
            reward_std=0.0,
        )

        def mean(positions):
            return np.array([[reward(theta + (p - engine.start)) for p in row] for row in positions])

        form = explicit_reward(land, mean)
        engine = DirectES(self.rule, land, 1, np.random.SeedSequence(seed), reward_form=form)
        engine.explicit = np.eye(len(theta))
        engine.step()
        return theta + engine.displacement[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
def test_the_direct_engine(name):
    check_step(Direct(RULES[name]), rule=RULES[name])


@pytest.mark.parametrize("name", RULES)
def test_what_all_engines_make_of_rewards(name):
    """step_weights, which the direct engines on numpy and torch and the reduced one share."""
    rule, rng = RULES[name], np.random.default_rng(0)
    estimator = estimator_of(rule)

    def update(rewards, noise):
        odd = np.zeros((1, estimator.directions))
        weights = step_weights(rule, odd, odd, 0.0, rng, lambda varying: rewards[None])
        return weights[0] @ noise[:: 2 if estimator.paired else 1]

    check_update(update, rule=rule)


def training_step(rule, shapes):
    """One step of training as a run makes it: its trajectory places the members, and a row of steps.jsonl moves it."""
    torch = pytest.importorskip("torch")
    from estheory.models.parameters import FlatParameters
    from estheory.training.trajectory import Trajectory
    from tests.training.runs import es_config

    fields = ("sigma", "alpha", "population", "shaping", "antithetic", "noise", "momentum", "anchor_l2", "anchor_form")

    class Training:
        def __init__(self):
            tensors = {f"t{k}": torch.nn.Parameter(torch.zeros(shape)) for k, shape in enumerate(shapes)}
            self.parameters = FlatParameters(torch.nn.ParameterDict(tensors))

        def __call__(self, theta, reward, seed):
            config = es_config(seed=seed, **{name: getattr(rule, name) for name in fields})
            start = torch.from_numpy(np.concatenate([part.ravel() for part in theta]).astype(np.float32))
            trajectory = Trajectory(self.parameters, start, config)
            out, values = torch.empty_like(start), []
            for evaluation in range(config.evaluations):
                trajectory.place(out, evaluation)
                values.append(reward(self.split(out)))
            shaped = config.estimator.shape(np.asarray(values)).tolist()
            trajectory.advance({"step": 1, "seeds": {"seed": seed, "step": 1}, "coefficients": shaped})
            return self.split(trajectory.theta)

        def split(self, flat):
            parts = np.split(flat.numpy().copy(), np.cumsum([math.prod(shape) for shape in shapes])[:-1])
            return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    return Training()


TRAINED = ((4, 8), (8, 4), (40,))
TRAINING = {
    "zscore": {},
    "ranks": {"shaping": "centered-rank"},
    "raw": {"shaping": "raw"},
    "two-point": {"shaping": "two-point"},
    "pairs": {"antithetic": True},
    "shared seed": {"noise": "shared-seed"},
    "low rank": {"noise": "low-rank:2"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINING)
def test_training(name):
    rule = ESConfig(dim=104, sigma=SIGMA, alpha=ALPHA, population=N, **TRAINING[name])
    check_step(training_step(rule, TRAINED), rule=rule, shapes=TRAINED)


@pytest.mark.slow
def test_the_engines_checks_have_power():
    """The same adapter around training that believes in another alpha."""
    rule = ESConfig(dim=104, sigma=SIGMA, alpha=ALPHA, population=N)
    other = ESConfig(dim=104, sigma=SIGMA, alpha=2 * ALPHA, population=N)
    with pytest.raises(AssertionError, match="applied twice, or alpha stands for alpha/2"):
        check_step(training_step(other, TRAINED), rule=rule, shapes=TRAINED)
