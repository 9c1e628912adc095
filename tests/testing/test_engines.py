"""The package's own engines and training pass the checks that everybody else's code gets."""

import importlib
import math

import numpy as np
import pytest

from estheory.landscape import Landscape
from estheory.rules import ESConfig
from estheory.simulation.direct import DirectES
from estheory.simulation.reduced import ReducedES
from estheory.simulation.rewards import explicit_reward
from estheory.simulation.update_steps import step_weights
from estheory.testing import check_step, check_update
from estheory.testing.failures import outcomes, raise_problems
from estheory.testing.laws import StepSample, law_checks
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


def plane(rule, slope):
    """A landscape that is linear over the reach of a member, along one of the rule's coordinates."""
    bend = 1e-9 * slope  # over a distance of slope/bend = 1e9; zero where there is no slope
    return Landscape(
        dim=rule.dim,
        eigenvalue=np.array([bend or 1e-12]),
        multiplicity=np.ones(1),
        offset=np.array([1e9 if slope else 0.0]),
        reward_std=1.0,
    )


def reduced_step(rule, landscape, replicas, seed):
    """Displacements of the reduced engine: it draws what the flat coordinates do in length, not in direction."""
    rng = np.random.default_rng(seed)
    engine = ReducedES(rule, landscape, replicas, 1, rng)
    squares = engine.step()
    curved, _ = engine.record()
    return np.hstack([curved, np.sqrt(squares)[:, None] * rng.standard_normal((replicas, rule.dim - 1))])


def block_step(rule, landscape, replicas, seed):
    """The same where all coordinates but one are a block of equal curvature."""
    rest = rule.dim - 1
    whole = Landscape(
        dim=rule.dim,
        eigenvalue=np.append(landscape.eigenvalue, 1e-12),
        multiplicity=np.array([1.0, rest]),
        offset=np.append(landscape.offset, 0.0),
        reward_std=1.0,
    )
    rng = np.random.default_rng(seed)
    engine = ReducedES(rule, whole, replicas, 1, rng)
    engine.step()
    single, block = engine.record()
    length = np.linalg.norm(block, axis=(1, 2))
    turned = rng.standard_normal((replicas, rest))
    return np.hstack([single, length[:, None] * turned / np.linalg.norm(turned, axis=1)[:, None]])


def torch_step(rule, landscape, replicas, seed):
    torch = pytest.importorskip("torch")
    from estheory.simulation.torch_direct import TorchES

    engine = TorchES(rule, landscape, replicas, np.random.SeedSequence(seed), torch.device("cpu"))
    engine.step()
    return engine.displacement


ENGINES = {"torch_direct": torch_step, "reduced": reduced_step, "reduced, a block": block_step}


def engine_laws(rule, engine, monkeypatch, run=None):
    """The laws of a rule on what an engine moves; the rewards that it drew are overheard where it weighs them."""
    module = importlib.import_module(f"estheory.simulation.{engine.partition(',')[0]}")

    def sample(slope):
        heard = []

        def overheard(config, odd, even, std, rng, evaluate=None):
            def evaluate(rewards):
                heard.append(rewards + std * rng.standard_normal(rewards.shape))
                return heard[-1]

            return step_weights(config, odd, even, std, rng, evaluate)

        monkeypatch.setattr(module, "step_weights", overheard)
        moved = ENGINES[engine](run or rule, plane(rule, slope), 400, [7, int(slope > 0)])
        return StepSample(moved=moved, rewards=heard[0], slope=slope)

    return law_checks(sample, rule, 1e-6, lambda: "")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", RULES)
def test_engines_that_draw_their_own_rewards(name, engine, monkeypatch):
    raise_problems(outcomes(engine_laws(RULES[name], engine, monkeypatch)))


@pytest.mark.parametrize("engine", ENGINES)
def test_the_laws_of_engines_have_power(engine, monkeypatch):
    """The same engines, run with a step that is a twentieth longer."""
    run = ESConfig(dim=RULES["zscore"].dim, sigma=SIGMA, alpha=1.05 * ALPHA, population=N)
    found = engine_laws(RULES["zscore"], engine, monkeypatch, run)
    failing = {check.name for check in found if not check.outcome().holds}
    assert failing == {"flat variance", "flat variance beside a signal", "law of the norm"}


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
