"""The doors: check a shaping, an update or a step, or get its checks one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

from estheory.errors import ConfigError
from estheory.rules import ESConfig, require_choice
from estheory.testing.failures import Check, outcomes, raise_problems
from estheory.testing.shaping import shaping_checks
from estheory.testing.step import step_checks
from estheory.testing.update import update_checks

Kind = Literal["shaping", "update", "step"]

LEVEL = 1e-6
"""Probability that the statistical laws of a check fail a right estimator."""


def checks(
    estimator: Callable[..., Any],
    *,
    rule: ESConfig,
    kind: Kind = "update",
    shapes: Sequence[tuple[int, ...]] | None = None,
    seed: int = 0,
    level: float = LEVEL,
) -> list[Check]:
    """Return the checks of an estimator one by one, for ``pytest.mark.parametrize``.

    Parameters
    ----------
    estimator
        ``shaping(rewards)``, ``update(rewards, noise)`` or ``step(theta, reward_function, seed)``.
    rule
        What it claims to be. What the rule does not claim is not checked.
    kind
        Which of the three it is.
    shapes
        Of the tensors that a step moves, as for :func:`check_step`.
    seed
        Of everything that is drawn.
    level
        Probability that the statistical laws, all together, fail a right estimator.

    Returns
    -------
    list of Check
        ``check()`` raises AssertionError where the invariant does not hold; ``str(check)`` is its name.

    Raises
    ------
    ConfigError
        The rule is not one that can be checked.

    Examples
    --------
    >>> rule = ESConfig(dim=16, sigma=0.1, alpha=0.05, population=8)
    >>> def update(rewards, noise):
    ...     z = (rewards - rewards.mean()) / (rewards.std() + 1e-8)
    ...     return 0.05 / 8 * z @ noise
    >>> names = [str(check) for check in checks(update, rule=rule)]
    >>> names[:5]
    ['result', 'determinism', 'inputs', 'float32', 'definition']
    """
    require_choice("kind", kind, get_args(Kind))
    if not callable(estimator):
        raise ConfigError(f"a {type(estimator).__name__} is not callable", "give a function or an object with __call__")
    if not 0 < level < 1:
        raise ConfigError(f"level must lie between 0 and 1, got {level}", "1e-6 is the default")
    if shapes is not None and kind != "step":
        raise ConfigError(f"shapes are for a step, not for {kind}", "leave them out")
    if kind == "shaping":
        return shaping_checks(estimator, rule, seed)
    if kind == "update":
        return update_checks(estimator, rule, seed, level)
    return step_checks(estimator, rule, shapes, seed, level)


def check_shaping(shaping: Callable[..., Any], *, rule: ESConfig, seed: int = 0, level: float = LEVEL) -> None:
    """Check ``shaping(rewards) -> coefficients``: z-scores, ranks and the like.

    Parameters
    ----------
    shaping
        From rewards, a float array of shape (N,), to one coefficient a member. With pairs R+ and R- follow in turn;
        for two-point there are 2 N rewards and N coefficients.
    rule
        What it claims to be: ``shaping``, ``population``, ``antithetic``; ``sigma`` divides raw and two-point ones.
    seed
        Of the examples.
    level
        As for :func:`check_update`; a shaping obeys no law of chance, so that it does not enter.

    Raises
    ------
    AssertionError
        An invariant fails; the message has its name, the smallest example, the figures and the likely fault.
    ConfigError
        The rule is not one that can be checked.

    Examples
    --------
    >>> rule = ESConfig(dim=1, sigma=0.1, population=8)
    >>> check_shaping(lambda r: (r - r.mean()) / (r.std() + 1e-8), rule=rule)
    >>> check_shaping(lambda r: (r - r.mean()) / (r.std(ddof=1) + 1e-8), rule=rule)
    Traceback (most recent call last):
    AssertionError: 'definition' fails: the result is not that of the rule
      claimed:      the result is that of the rule (zscore shaping)
      example:      rewards [1, 0 (7 times)]
      measured:     [2.47487, -0.353553 (7 times)]
      expected:     [2.64575, -0.377964 (7 times)]
      likely fault: 1.069 times too short: the sample standard deviation (N-1) stands for the population's (N)
    """
    __tracebackhide__ = True
    raise_problems(outcomes(checks(shaping, rule=rule, kind="shaping", seed=seed, level=level)))


def check_update(update: Callable[..., Any], *, rule: ESConfig, seed: int = 0, level: float = LEVEL) -> None:
    """Check ``update(rewards, noise) -> displacement``, the update of one step before anchor and momentum.

    Parameters
    ----------
    update
        From rewards, shape (N,), and noise, shape (N, d), to the displacement, shape (d,), weight units. Member i is
        theta + sigma noise[i]. Mirrored members follow each other: noise[2k + 1] = -noise[2k]; for two-point there are
        2 N rows. Where it takes ``alpha``, proportionality to it is checked, too.
    rule
        What it claims to be; ``dim`` is d.
    seed
        Of everything that is drawn.
    level
        Probability that the statistical laws, all together, fail a right update.

    Raises
    ------
    AssertionError
        As for :func:`check_shaping`.
    ConfigError
        The rule is not one that can be checked.
    """
    __tracebackhide__ = True
    raise_problems(outcomes(checks(update, rule=rule, kind="update", seed=seed, level=level)))


def check_step(
    step: Callable[..., Any],
    *,
    rule: ESConfig,
    shapes: Sequence[tuple[int, ...]] | None = None,
    seed: int = 0,
    level: float = LEVEL,
) -> None:
    """Check ``step(theta, reward_function, seed) -> theta``, which draws noise and evaluates members itself.

    Parameters
    ----------
    step
        It calls ``reward_function(theta_i)``, which returns a float, for one member at a time.
        Where it takes ``workers``, 1 and 2 of them must agree bit by bit; where it takes ``alpha``, the step must be
        proportional to it. With momentum or an anchor it is an object with ``start(theta)``, which begins a new run.
    rule
        What it claims to be; ``dim``, at least 8, is the number of parameters.
    shapes
        Theta is a list of numpy arrays of these shapes; None for one vector of shape (dim,).
    seed, level
        As for :func:`check_update`.

    Raises
    ------
    AssertionError
        As for :func:`check_shaping`.
    ConfigError
        The rule is not one that can be checked.
    """
    __tracebackhide__ = True
    raise_problems(outcomes(checks(step, rule=rule, kind="step", shapes=shapes, seed=seed, level=level)))
