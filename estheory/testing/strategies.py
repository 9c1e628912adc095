"""What to draw for property tests of estimators: strategies of hypothesis, which shrink to small examples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from estheory._special import Array
from estheory.errors import ConfigError
from estheory.landscape import Landscape
from estheory.rules import MIRRORED_SHAPINGS, AnchorForm, ESConfig, Shaping

RewardKind = Literal["plain", "ties", "equal", "binary", "huge", "tiny"]
LandscapeKind = Literal["quadratic", "saturating", "binary"]

_GRID = st.integers(-20, 20).map(lambda k: k / 4)  # sums, shifts and products of few of them have no rounding


def _told_apart(rewards: Array) -> Array:
    """Return rewards that are not all equal: 1 is taken from or added to the first of equal ones."""
    if len(rewards) > 1 and np.ptp(rewards) == 0:
        rewards[0] += 1.0 if rewards[0] <= 0 else -1.0
    return rewards


def reward_vectors(
    size: int | st.SearchStrategy[int] | None = None, *, kinds: Sequence[RewardKind] = get_args(RewardKind)
) -> st.SearchStrategy[Array]:
    """Draw the rewards of one step.

    Parameters
    ----------
    size
        Number of rewards, or a strategy of it; 2 to 40 by default.
    kinds
        ``plain``: quarters from -5 to 5, not all equal. ``ties``: a few values, most of them shared. ``equal``: all
        the same. ``binary``: 0 and 1, both there. ``huge`` and ``tiny``: plain ones times 1e12 and 1e-12.

    Returns
    -------
    SearchStrategy
        Of float64 arrays of shape (size,); they shrink to few members and small numbers.

    Raises
    ------
    ConfigError
        For a kind that is not one of these.

    Examples
    --------
    >>> from hypothesis import given
    >>> @given(reward_vectors(kinds=("equal",)))
    ... def test(rewards):
    ...     assert rewards.min() == rewards.max()
    >>> test()
    """
    unknown = set(kinds) - set(get_args(RewardKind))
    if unknown or not kinds:
        raise ConfigError(f"reward kinds {sorted(unknown)} are unknown", f"use some of {get_args(RewardKind)}")
    sizes = size if isinstance(size, st.SearchStrategy) else st.just(size) if size is not None else st.integers(2, 40)

    def of_kind(kind: RewardKind, n: int) -> st.SearchStrategy[Array]:
        few = arrays(np.int8, n, elements=st.integers(-20, 20)).map(lambda r: _told_apart(r / 4))
        many = st.integers(0, 2**16).map(lambda seed: np.random.default_rng(seed).integers(-20, 21, n) / 4)
        plain = few if n <= 16 else st.one_of(few, many.map(_told_apart))  # a seed would not shrink
        if kind == "equal":
            return _GRID.map(lambda value: np.full(n, value))
        if kind == "ties":
            return arrays(np.int8, n, elements=st.integers(0, 2)).map(lambda r: r * 1.0)
        if kind == "binary":
            return arrays(np.int8, n, elements=st.integers(0, 1)).map(lambda r: _told_apart(r * 1.0))
        return plain.map(lambda r: {"huge": 1e12, "tiny": 1e-12}.get(kind, 1.0) * r)

    return st.tuples(st.sampled_from(list(kinds)), sizes).flatmap(lambda pair: of_kind(*pair))


def noise(members: int | st.SearchStrategy[int] = 4, dim: int | st.SearchStrategy[int] = 3) -> st.SearchStrategy[Array]:
    """Draw standard normal noise, one row per member.

    Parameters
    ----------
    members, dim
        Sizes, or strategies of them.

    Returns
    -------
    SearchStrategy
        Of float64 arrays of shape (members, dim); a seed is drawn, so that they are normal and shrink to seed 0.
    """

    def drawn(sizes: tuple[int, int, int]) -> Array:
        rows, columns, seed = sizes
        return np.random.default_rng(seed).standard_normal((rows, columns))

    rows = members if isinstance(members, st.SearchStrategy) else st.just(members)
    columns = dim if isinstance(dim, st.SearchStrategy) else st.just(dim)
    return st.tuples(rows, columns, st.integers(0, 2**32 - 1)).map(drawn)


def tensor_shapes(*, max_tensors: int = 5, max_elements: int = 64) -> st.SearchStrategy[tuple[tuple[int, ...], ...]]:
    """Draw the shapes of a model's tensors; equal ones and equal sizes are likely, as in real models.

    Parameters
    ----------
    max_tensors
        Largest number of tensors.
    max_elements
        Largest number of elements of one.

    Returns
    -------
    SearchStrategy
        Of tuples of shapes: vectors, matrices and tensors of three axes.
    """
    side = st.integers(1, max(1, math.isqrt(max_elements)))
    shape = st.one_of(
        st.integers(1, max_elements).map(lambda n: (n,)),
        st.tuples(side, side),
        st.tuples(side, side).map(lambda pair: (pair[0] * pair[1],)),
        st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, max(1, max_elements // 9))),
    )
    pool = st.lists(shape, min_size=1, max_size=3)
    return pool.flatmap(lambda few: st.lists(st.sampled_from(few), min_size=1, max_size=max_tensors).map(tuple))


def spectra(dim: int | None = None, *, max_rows: int = 4) -> st.SearchStrategy[Landscape]:
    """Draw quadratic landscapes: eigenvalues of minus the Hessian with their multiplicities and offsets.

    Parameters
    ----------
    dim
        Of the landscape; 1 to 10,000 by default.
    max_rows
        Largest number of distinct eigenvalues.

    Returns
    -------
    SearchStrategy
        Of :class:`estheory.landscape.Landscape`; what the rows leave of ``dim`` is flat.
    """

    @st.composite
    def drawn(draw: st.DrawFn) -> Landscape:
        total = draw(st.integers(1, 10_000)) if dim is None else dim
        rows: list[tuple[float, int, float]] = []
        left = total
        for _ in range(draw(st.integers(1, max_rows))):
            if left == 0:
                break
            count = draw(st.integers(1, left))
            power, offset = draw(st.integers(-3, 2)), draw(st.integers(0, 20)) / 10
            rows.append((10.0**power * draw(st.integers(1, 9)), count, offset))
            left -= count
        eigenvalue, multiplicity, offset_of = (list(column) for column in zip(*rows, strict=True))
        return Landscape(
            dim=total,
            eigenvalue=np.array(eigenvalue, dtype=np.float64),
            multiplicity=np.array(multiplicity, dtype=np.float64),
            offset=np.array(offset_of, dtype=np.float64),
            reward_std=draw(st.sampled_from([0.0, 0.01, 0.1, 1.0])),
        )

    return drawn()


@dataclass(frozen=True, kw_only=True, eq=False)
class RewardFunction:
    """A reward of theta without randomness, for ``step(theta, reward_function, seed)``.

    Attributes
    ----------
    kind
        ``quadratic``: -1/2 sum_k lam_k (theta_k - optimum_k)^2. ``saturating``: the logistic function of that.
        ``binary``: the share of prompts whose linear score is positive, so that rewards tie.
    eigenvalue, optimum
        lam and theta*, shape (dim,).
    prompts
        Directions and thresholds of the prompts, shape (prompts, dim + 1); empty but for ``binary``.
    """

    kind: LandscapeKind
    eigenvalue: Array
    optimum: Array
    prompts: Array

    @property
    def dim(self) -> int:
        """Number of parameters."""
        return len(self.eigenvalue)

    def __call__(self, theta: Array) -> float:
        """Return the reward at ``theta``, shape (dim,)."""
        position = np.asarray(theta, dtype=np.float64).ravel() - self.optimum
        if self.kind == "binary":
            return float(np.mean(self.prompts[:, :-1] @ position > self.prompts[:, -1]))
        value = -0.5 * float(self.eigenvalue @ position**2)
        return 1 / (1 + math.exp(-max(value, -700.0))) if self.kind == "saturating" else value


def landscapes(
    dim: int | st.SearchStrategy[int] = 8, *, kinds: Sequence[LandscapeKind] = get_args(LandscapeKind)
) -> st.SearchStrategy[RewardFunction]:
    """Draw reward functions to optimise.

    Parameters
    ----------
    dim
        Number of parameters, or a strategy of it.
    kinds
        As of :class:`RewardFunction`.

    Returns
    -------
    SearchStrategy
        Of :class:`RewardFunction`.
    """

    @st.composite
    def drawn(draw: st.DrawFn) -> RewardFunction:
        n = draw(dim) if isinstance(dim, st.SearchStrategy) else dim
        kind = draw(st.sampled_from(list(kinds)))
        count = draw(st.integers(1, 16)) if kind == "binary" else 0
        return RewardFunction(
            kind=kind,
            eigenvalue=draw(arrays(np.float64, n, elements=st.sampled_from([0.0, 0.1, 1.0, 10.0]))),
            optimum=draw(arrays(np.float64, n, elements=_GRID)),
            prompts=draw(arrays(np.float64, (count, n + 1), elements=_GRID)),
        )

    return drawn()


def es_configs(**fixed: Any) -> st.SearchStrategy[ESConfig]:
    """Draw valid configurations of evolution strategies.

    Parameters
    ----------
    **fixed
        Fields of :class:`estheory.rules.ESConfig` that are not to vary; combinations that no result covers are left
        out of the others.

    Returns
    -------
    SearchStrategy
        Of ESConfig, simplest first: gaussian noise, z-scores, neither anchor nor momentum.

    Examples
    --------
    >>> from hypothesis import given
    >>> @given(es_configs(shaping="zscore", antithetic=True))
    ... def test(rule):
    ...     assert rule.population % 2 == 0
    >>> test()
    """

    @st.composite
    def drawn(draw: st.DrawFn) -> ESConfig:
        def field(name: str, strategy: Callable[[], st.SearchStrategy[Any]]) -> Any:
            return fixed[name] if name in fixed else draw(strategy())

        shapings = MIRRORED_SHAPINGS if fixed.get("antithetic") else get_args(Shaping)
        shaping = field("shaping", lambda: st.sampled_from(shapings))
        mirrors = st.booleans() if shaping in MIRRORED_SHAPINGS else st.just(False)
        antithetic = field("antithetic", lambda: mirrors)
        members = st.integers(2, 64).map(lambda n: 2 * n) if antithetic else st.integers(2, 128)
        sigma = field("sigma", lambda: st.sampled_from([0.01, 1e-3, 0.1, 1.0]))
        alone = not (fixed.get("momentum") or fixed.get("anchor_l2"))
        l1 = field("anchor_l1", lambda: st.sampled_from([0.0, 0.0, 1e-4] if alone else [0.0]))
        free = st.sampled_from([0.0] if l1 else [0.0, 0.01, 0.1])
        config = {
            "shaping": shaping,
            "antithetic": antithetic,
            "sigma": sigma,
            "dim": field("dim", lambda: st.one_of(st.integers(1, 1000), st.sampled_from([10**6, 4 * 10**9]))),
            "population": field("population", lambda: members),
            "alpha": field("alpha", lambda: st.sampled_from([None, sigma, sigma / 10])),
            "steps": field("steps", lambda: st.integers(1, 1000)),
            "noise": field("noise", lambda: st.sampled_from(["gaussian", "low-rank:1", "low-rank:4", "shared-seed"])),
            "anchor_l1": l1,
            "anchor_l2": field("anchor_l2", lambda: free),
            "anchor_form": field("anchor_form", lambda: st.sampled_from(get_args(AnchorForm))),
            "momentum": field("momentum", lambda: st.sampled_from([0.0] if l1 else [0.0, 0.5, 0.9])),
        }
        return ESConfig(**(config | fixed))

    return drawn()
