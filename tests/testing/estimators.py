"""Right and wrong estimators: each wrong one has a fault from public reports, and the words that must name it."""

import numpy as np

from estheory.rules import ESConfig

N, SIGMA, ALPHA, DIM = 30, 0.02, 0.01, 64
SHAPES = ((4, 8), (32,), (8, 4))  # tensors of equal size, 96 in all
RULE = ESConfig(dim=DIM, sigma=SIGMA, alpha=ALPHA, population=N)
RULES = {
    "zscore": RULE,
    "ranks": ESConfig(dim=DIM, sigma=SIGMA, alpha=ALPHA, population=N, shaping="centered-rank"),
    "raw": ESConfig(dim=DIM, sigma=SIGMA, alpha=ALPHA, population=N, shaping="raw"),
    "pairs": ESConfig(dim=DIM, sigma=SIGMA, alpha=ALPHA, population=N, antithetic=True),
    "two-point": ESConfig(dim=DIM, sigma=SIGMA, alpha=ALPHA, population=N, shaping="two-point"),
}


def z(r, ddof=0):
    return (r - r.mean()) / (r.std(ddof=ddof) + 1e-8)


def mean_ranks(r):
    return (r[:, None] > r).sum(1) + ((r[:, None] == r).sum(1) - 1) / 2


RIGHT_SHAPINGS = {
    "zscore": z,
    "ranks": lambda r: mean_ranks(r) / (len(r) - 1) - 0.5,
    "raw": lambda r: (r - r.mean()) / SIGMA,
    "pairs": z,
    "two-point": lambda r: (r[0::2] - r[1::2]) / (2 * SIGMA),
}
RIGHT_UPDATES = {
    "zscore": lambda r, e: ALPHA / N * z(r) @ e,
    "ranks": lambda r, e: ALPHA / N * (mean_ranks(r) / (N - 1) - 0.5) @ e,
    "raw": lambda r, e: ALPHA / (N * SIGMA) * (r - r.mean()) @ e,
    "pairs": lambda r, e: ALPHA / N * (z(r)[0::2] - z(r)[1::2]) @ e[0::2],
    "two-point": lambda r, e: ALPHA / N * ((r[0::2] - r[1::2]) / (2 * SIGMA)) @ e[0::2],
}
WRONG_SHAPINGS = {
    ("zscore", "sample standard deviation"): lambda r: z(r, 1),
    ("zscore", "standard deviation of 0"): lambda r: (r - r.mean()) / r.std(),
    ("zscore", "not centred"): lambda r: r / (r.std() + 1e-8),
    ("ranks", "ranks are divided by N, not N-1"): lambda r: (mean_ranks(r) - (N - 1) / 2) / N,
    ("ranks", "order of the members"): lambda r: np.argsort(np.argsort(r, kind="stable")) / (len(r) - 1) - 0.5,
    ("ranks", "one argsort"): lambda r: np.argsort(r, kind="stable") / (len(r) - 1) - 0.5,
    ("two-point", "1/(2 sigma)"): lambda r: (r[0::2] - r[1::2]) / SIGMA,
}
WRONG_UPDATES = {
    ("zscore", "1/N is missing"): lambda r, e: ALPHA * z(r) @ e,
    ("zscore", "1/sqrt(N) stands"): lambda r, e: ALPHA / np.sqrt(N) * z(r) @ e,
    ("zscore", "sample standard deviation"): lambda r, e: ALPHA / N * z(r, 1) @ e,
    ("zscore", "1/sigma is too much"): lambda r, e: ALPHA / (N * SIGMA) * z(r) @ e,
    ("zscore", "1/sigma^2"): lambda r, e: ALPHA / (N * SIGMA**2) * z(r) @ e,
    ("zscore", "applied twice"): lambda r, e: 2 * ALPHA / N * z(r) @ e,
    ("zscore", "minimised"): lambda r, e: -ALPHA / N * z(r) @ e,
    ("zscore", "not centred"): lambda r, e: ALPHA / N * (r / (r.std() + 1e-8)) @ e,
    ("zscore", "not divided by their"): lambda r, e: ALPHA / N * (r - r.mean()) @ e,
    ("zscore", "centred ranks"): lambda r, e: ALPHA / N * (mean_ranks(r) / (N - 1) - 0.5) @ e,
    ("zscore", "member before"): lambda r, e: ALPHA / N * z(r)[1:] @ e[:-1] + ALPHA / N * z(r)[0] * e[-1],
    ("zscore", "last member"): lambda r, e: ALPHA / N * z(r)[:-1] @ e[:-1],
    ("zscore", "below the mean"): lambda r, e: ALPHA / N * np.maximum(z(r), 0) @ e,
    ("zscore", "normalised"): lambda r, e: ALPHA * (z(r) @ e) / (np.linalg.norm(z(r) @ e) + 1e-12),
    ("raw", "1/sigma is missing"): lambda r, e: ALPHA / N * (r - r.mean()) @ e,
    ("raw", "1/(N-1)"): lambda r, e: ALPHA / ((N - 1) * SIGMA) * (r - r.mean()) @ e,
    ("raw", "not centred"): lambda r, e: ALPHA / (N * SIGMA) * r @ e,
    ("pairs", "number of pairs"): lambda r, e: ALPHA / (N / 2) * z(r) @ e,
    ("pairs", "sign of mirrored"): lambda r, e: ALPHA / N * (z(r)[0::2] + z(r)[1::2]) @ e[0::2],
    ("pairs", "first half"): lambda r, e: ALPHA / N * (z(r)[: N // 2] - z(r)[N // 2 :]) @ e[0::2],
    ("two-point", "1/(2 sigma)"): lambda r, e: ALPHA / N * ((r[0::2] - r[1::2]) / SIGMA) @ e[0::2],
    ("two-point", "positive sign"): lambda r, e: ALPHA / (N * SIGMA) * r[0::2] @ e[0::2],
}


def flat(parts):
    return np.concatenate([p.ravel() for p in parts])


def right_step(theta, reward, seed):
    eps = np.random.default_rng(seed).standard_normal((N, len(theta)))
    rewards = np.array([reward(theta + SIGMA * e) for e in eps])
    return theta + ALPHA / N * z(rewards) @ eps


def right_pairs(theta, reward, seed):
    eps = np.random.default_rng(seed).standard_normal((N // 2, len(theta)))
    rewards = np.array([[reward(theta + SIGMA * e), reward(theta - SIGMA * e)] for e in eps]).ravel()
    return theta + ALPHA / N * (z(rewards)[0::2] - z(rewards)[1::2]) @ eps


def right_two_point(theta, reward, seed):
    eps = np.random.default_rng(seed).standard_normal((N, len(theta)))
    slopes = np.array([reward(theta + SIGMA * e) - reward(theta - SIGMA * e) for e in eps]) / (2 * SIGMA)
    return theta + ALPHA / N * slopes @ eps


def tensor_step(theta, reward, seed):
    """A step of a list of tensors, with noise of its own for each."""
    rng = np.random.default_rng(seed)
    eps = [[rng.standard_normal(t.shape) for t in theta] for _ in range(N)]
    rewards = np.array([reward([t + SIGMA * x for t, x in zip(theta, e, strict=True)]) for e in eps])
    return [t + ALPHA / N * np.tensordot(z(rewards), [e[k] for e in eps], 1) for k, t in enumerate(theta)]


def reseeded_step(theta, reward, seed):
    """The reference code's noise: one generator, seeded again for every tensor."""

    def noise(member):
        return [np.random.default_rng([seed, member]).standard_normal(t.shape) for t in theta]

    eps = [noise(k) for k in range(N)]
    rewards = np.array([reward([t + SIGMA * x for t, x in zip(theta, e, strict=True)]) for e in eps])
    return [t + ALPHA / N * np.tensordot(z(rewards), [e[k] for e in eps], 1) for k, t in enumerate(theta)]


def low_rank_step(scale=1.0, rank=2):
    def step(theta, reward, seed):
        rng = np.random.default_rng(seed)

        def noise(t):
            if t.ndim < 2:
                return rng.standard_normal(t.shape)
            a, b = rng.standard_normal((t.shape[0], rank)), rng.standard_normal((t.shape[1], rank))
            return scale * a @ b.T / np.sqrt(rank)

        eps = [[noise(t) for t in theta] for _ in range(N)]
        rewards = np.array([reward([t + SIGMA * x for t, x in zip(theta, e, strict=True)]) for e in eps])
        return [t + ALPHA / N * np.tensordot(z(rewards), [e[k] for e in eps], 1) for k, t in enumerate(theta)]

    return step


class Remembering:
    """Heavy-ball momentum with (1 - beta), and L2 anchoring in either form."""

    def __init__(self, momentum=0.0, anchor=0.0, after=False, damped=True):
        self.momentum, self.anchor, self.after, self.damped = momentum, anchor, after, damped

    def start(self, theta):
        self.base, self.velocity = theta.copy(), np.zeros_like(theta)

    def __call__(self, theta, reward, seed):
        update = right_step(theta, reward, seed) - theta
        self.velocity = self.momentum * self.velocity + (1 - self.momentum if self.damped else 1) * update
        new = theta + self.velocity
        return new - self.anchor * ((new if self.after else theta) - self.base)


def with_noise(draw):
    def step(theta, reward, seed):
        eps = draw(np.random.default_rng(seed), (N, len(theta)), seed)
        rewards = np.array([reward(theta + SIGMA * e) for e in eps])
        return theta + ALPHA / N * z(rewards) @ eps

    return step


def perturbed(size):
    def step(theta, reward, seed):
        eps = np.random.default_rng(seed).standard_normal((N, len(theta)))
        rewards = np.array([reward(theta + size * e) for e in eps])
        return theta + ALPHA / N * z(rewards) @ eps

    return step


def not_restored(theta, reward, seed):
    eps = np.random.default_rng(seed).standard_normal((N, len(theta)))
    moving, rewards = theta.copy(), []
    for e in eps:
        moving += SIGMA * e
        rewards.append(reward(moving))
    return theta + ALPHA / N * z(np.array(rewards)) @ eps


def restored_by_subtraction(theta, reward, seed):
    eps = np.random.default_rng(seed).standard_normal((N, len(theta)))
    moving, rewards = theta.copy(), []
    for e in eps:
        moving += SIGMA * e
        rewards.append(reward(moving))
        moving -= SIGMA * e
    return moving + ALPHA / N * z(np.array(rewards)) @ eps


def in_place(theta, reward, seed):
    theta += right_step(theta, reward, seed) - theta
    return theta


def unseeded(theta, reward, seed):
    return right_step(theta, reward, None)


def seed_ignored(theta, reward, seed):
    return right_step(theta, reward, 7)


def other_noise(theta, reward, seed):
    eps = np.random.default_rng(seed).standard_normal((N, len(theta)))
    rewards = np.array([reward(theta + SIGMA * e) for e in eps])
    return theta + ALPHA / N * z(rewards) @ np.random.default_rng(seed + 1).standard_normal(eps.shape)


def half_precision(theta, reward, seed):
    return right_step(theta, reward, seed).astype(np.float16)


def by_workers(theta, reward, seed, workers=1):
    eps = np.concatenate(
        [np.random.default_rng([seed, k]).standard_normal((N // workers, len(theta))) for k in range(workers)]
    )
    rewards = np.array([reward(theta + SIGMA * e) for e in eps])
    return theta + ALPHA / N * z(rewards) @ eps


def short_population(theta, reward, seed):
    eps = np.random.default_rng(seed).standard_normal((N - 1, len(theta)))
    rewards = np.array([reward(theta + SIGMA * e) for e in eps])
    return theta + ALPHA / N * z(rewards) @ eps


def fresh_minus(theta, reward, seed):
    """Meant to be mirrored, but the member of negative sign draws its own noise."""
    rng = np.random.default_rng(seed)
    eps = rng.standard_normal((N, len(theta)))
    eps[1::2] *= -1
    rewards = np.array([reward(theta + SIGMA * e) for e in eps])
    return theta + ALPHA / N * z(rewards) @ eps


def scaled_step(factor):
    return lambda theta, reward, seed: theta + factor * (right_step(theta, reward, seed) - theta)


RIGHT_STEPS = {
    "zscore": (right_step, RULE, None),
    "pairs": (right_pairs, RULES["pairs"], None),
    "two-point": (right_two_point, RULES["two-point"], None),
    "tensors": (tensor_step, ESConfig(dim=96, sigma=SIGMA, alpha=ALPHA, population=N), SHAPES),
    "re-seeded": (
        reseeded_step,
        ESConfig(dim=96, sigma=SIGMA, alpha=ALPHA, population=N, noise="shared-seed"),
        SHAPES,
    ),
    "low rank": (low_rank_step(), ESConfig(dim=96, sigma=SIGMA, alpha=ALPHA, population=N, noise="low-rank:2"), SHAPES),
    "momentum": (Remembering(0.9), ESConfig(dim=DIM, sigma=SIGMA, alpha=ALPHA, population=N, momentum=0.9), None),
    "anchor": (
        Remembering(0.0, 0.1, True),
        ESConfig(dim=DIM, sigma=SIGMA, alpha=ALPHA, population=N, anchor_l2=0.1, anchor_form="after"),
        None,
    ),
}
WRONG_STEPS = {
    "1/N is missing": (scaled_step(N), RULE, None),
    "alpha/2 stands for alpha": (scaled_step(0.5), RULE, None),
    "(sigma^2)": (perturbed(SIGMA**2), RULE, None),
    "taken for a variance": (perturbed(SIGMA**0.5), RULE, None),
    "not taken back": (not_restored, RULE, None),
    "taken back by subtraction": (restored_by_subtraction, RULE, None),
    "updates the caller's array": (in_place, RULE, None),
    "seed does not fix": (unseeded, RULE, None),
    "seed does not reach": (seed_ignored, RULE, None),
    "out of the span": (other_noise, RULE, None),
    "narrower": (half_precision, RULE, None),
    "two workers": (by_workers, RULE, None),
    "evaluates 29 members": (short_population, RULE, None),
    "all members have the same noise": (
        with_noise(lambda rng, shape, seed: np.repeat(rng.standard_normal((1, shape[1])), shape[0], 0)),
        RULE,
        None,
    ),
    "members 0 and 15 have the same noise": (
        with_noise(lambda rng, shape, seed: np.tile(rng.standard_normal((shape[0] // 2, shape[1])), (2, 1))),
        RULE,
        None,
    ),
    "[0, 1], not normal": (with_noise(lambda rng, shape, seed: rng.random(shape)), RULE, None),
    "+-1, not normal": (with_noise(lambda rng, shape, seed: rng.choice([-1.0, 1.0], shape)), RULE, None),
    "not mirrored": (fresh_minus, RULES["pairs"], None),
    "members are mirrored": (right_pairs, RULE, None),
    "re-seeded for each": (reseeded_step, ESConfig(dim=96, sigma=SIGMA, alpha=ALPHA, population=N), SHAPES),
    "1/sqrt(rank) is missing": (
        low_rank_step(np.sqrt(2.0)),
        ESConfig(dim=96, sigma=SIGMA, alpha=ALPHA, population=N, noise="low-rank:2"),
        SHAPES,
    ),
    "has rank 3": (
        low_rank_step(rank=3),
        ESConfig(dim=96, sigma=SIGMA, alpha=ALPHA, population=N, noise="low-rank:2"),
        SHAPES,
    ),
    "without its factor 1 - beta": (
        Remembering(0.9, damped=False),
        ESConfig(dim=DIM, sigma=SIGMA, alpha=ALPHA, population=N, momentum=0.9),
        None,
    ),
    "memory": (
        Remembering(0.0, 0.1),
        ESConfig(dim=DIM, sigma=SIGMA, alpha=ALPHA, population=N, anchor_l2=0.2),
        None,
    ),
}
