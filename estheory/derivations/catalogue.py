"""All derivations by name."""

from __future__ import annotations

import difflib
from functools import lru_cache

from estheory.derivations import (
    bounds,
    coherent,
    comparison,
    correlated,
    cosines,
    curvature,
    curved_memory,
    drift,
    dynamics,
    economy,
    memory,
    own_length,
    pairs,
    precision,
    quadratic,
    rewards,
    shapings,
    signal,
    steering,
    walk,
)
from estheory.derivations.derivation import Derivation
from estheory.errors import ConfigError

_TOPICS = (
    walk,
    shapings,
    correlated,
    memory,
    signal,
    steering,
    own_length,
    bounds,
    cosines,
    curvature,
    quadratic,
    pairs,
    dynamics,
    curved_memory,
    drift,
    economy,
    coherent,
    rewards,
    comparison,
    precision,
)


@lru_cache(maxsize=1)
def derivations() -> dict[str, Derivation]:
    """Return every derivation by its name, topic by topic.

    Examples
    --------
    >>> list(derivations())[:2]
    ['flat-variance', 'norm-mean-square']
    """
    return {derivation.name: derivation for topic in _TOPICS for derivation in topic.DERIVATIONS}


def derive(name: str) -> Derivation:
    """Return the derivation of a name.

    Parameters
    ----------
    name
        As ``estheory derive --list`` shows it.

    Returns
    -------
    Derivation
        With its steps.

    Raises
    ------
    ConfigError
        For an unknown name, with the closest ones.

    Examples
    --------
    >>> str(derive("flat-variance").result)
    'alpha**2/N'
    """
    known = derivations()
    if name in known:
        return known[name]
    named = [key for text in (str, lambda key: known[key].title) for key in known if name.lower() in text(key).lower()]
    close = difflib.get_close_matches(name, known, 3) or list(dict.fromkeys(named))[:3]
    hint = f"did you mean {' or '.join(close)}?" if close else "see estheory derive --list"
    raise ConfigError(f"no derivation is called '{name}'", hint)
