"""Faults of the members' noise itself, seen in the perturbations of one step or in displacements of tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from estheory._special import Array
from estheory.diagnosis.faults import explain_ratio, length_sentence, perturbation_faults
from estheory.rules import ESConfig
from estheory.theory.estimators import estimator_of


def tensor_parts(vectors: Array, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """Divide the last axis of vectors into the parts of a model's tensors."""
    return np.split(vectors, np.cumsum([math.prod(shape) for shape in shapes])[:-1], axis=-1)


def shared_tensors(vector: Array, shapes: Sequence[tuple[int, ...]], *, cosine: float = 0.99) -> tuple[int, int] | None:
    """Return two tensors of equal element count whose parts of a vector point the same way, or None.

    ``vector`` is one member's noise or one displacement, shape (d,): a generator that is re-seeded for every tensor
    gives tensors of one size the same noise. Tensors of fewer than 16 elements may agree by chance and are left out.
    """
    parts = tensor_parts(vector, shapes)
    for one, other in combinations(range(len(parts)), 2):
        size = float(np.linalg.norm(parts[one]) * np.linalg.norm(parts[other]))
        alike = parts[one].size == parts[other].size >= 16 and size > 0
        if alike and float(parts[one] @ parts[other]) > cosine * size:
            return one, other
    return None


def mirrored_rows(eps: Array) -> list[tuple[int, int]]:
    """Return the pairs of rows that are each other's negative, shape (n, d); a row is in one pair at most."""
    opposite, pairs, taken = _same(eps, -eps), [], set()
    for row in range(len(eps)):
        match = [k for k in range(row + 1, len(eps)) if opposite[row, k] and k not in taken]
        if row not in taken and match:
            taken.add(match[0])
            pairs.append((row, match[0]))
    return pairs


def explain_noise(eps: Array, rule: ESConfig, shapes: Sequence[tuple[int, ...]]) -> tuple[str, ...]:
    """Return what is wrong with the members' noise of one step, a clause each.

    Parameters
    ----------
    eps
        (theta_i - theta) / sigma in the order of evaluation, shape (n, d).
    rule
        What the step claims to be.
    shapes
        Of the model's tensors; their sizes add up to d.

    Returns
    -------
    tuple of str
        Empty where nothing known is wrong.

    Examples
    --------
    >>> rule = ESConfig(dim=50, sigma=0.01, population=4)
    >>> explain_noise(0.01 * np.random.default_rng(0).standard_normal((4, 50)), rule, [(50,)])
    ('perturbations are 104 times too short: sigma is applied twice (sigma^2)',)
    """
    if not np.any(eps):
        return ("no member is perturbed",)
    found = []
    norms = np.linalg.norm(eps, axis=1)
    if len(eps) > 2 and _accumulates(eps, norms):
        return ("perturbations are not taken back: each member holds the noise of all before it",)
    same = np.argwhere(np.triu(_same(eps, eps), 1)).tolist()
    if len(same) == len(eps) * (len(eps) - 1) // 2 and same:
        found.append("all members have the same noise")
    elif same:
        found.append(f"members {same[0][0]} and {same[0][1]} have the same noise")
    pairs = mirrored_rows(eps)
    if estimator_of(rule).paired and 2 * len(pairs) < len(eps) and not same:
        found.append("members are not mirrored: both of a pair draw noise of their own")
    if not estimator_of(rule).paired and pairs:
        found.append("members are mirrored, which the rule does not say (antithetic)")
    if rule.noise != "shared-seed" and (tensors := shared_tensors(eps[0], shapes)):
        found.append(f"tensors {tensors[0]} and {tensors[1]} share their noise: one generator is re-seeded for each")
    flat = eps.ravel() / (math.sqrt(float(np.mean(eps**2))) or 1.0)
    if flat.size >= 100 and np.allclose(np.abs(flat), 1.0, atol=1e-4):
        found.append("noise is +-1, not normal")
    ratio, error = math.sqrt(float(np.mean(eps**2))), 1 / math.sqrt(2 * max(eps.size, 1))
    scale = explain_ratio(ratio, error, perturbation_faults(rule))
    bounded = flat.size >= 100 and float(np.abs(flat).max()) < 2.0
    wrong_range = "[-1, 1]" if float(eps.min()) >= 0 else "[0, 1]"
    scale = tuple(
        fit for fit in scale if "uniform" not in fit.fault.name or (bounded and wrong_range not in fit.fault.name)
    )
    if scale:
        found.append(f"perturbations are {length_sentence(ratio, scale)}")
    return tuple(found)


def _accumulates(eps: Array, norms: Array) -> bool:
    """Return whether each row is the one before it plus new noise of the size of the first."""
    steps = np.linalg.norm(np.diff(eps, axis=0), axis=1)
    grows = bool(norms[-1] > 1.3 * norms[0])
    return grows and bool(np.all(np.abs(steps / max(norms[0], 1e-300) - 1) < 0.5))


def _same(some: Array, others: Array) -> NDArray[np.bool_]:
    """Return which rows of two arrays are alike to a thousandth, shape (n, n)."""
    square = np.sum(some**2, axis=1)
    distance = square[:, None] + np.sum(others**2, axis=1) - 2 * some @ others.T
    return np.asarray(distance <= 1e-6 * square[:, None])
