"""Property tests of evolution strategies, for everybody's code: checks of invariants, and strategies of hypothesis."""

from __future__ import annotations

from importlib.util import find_spec

from estheory.errors import MissingDependencyError

if find_spec("hypothesis") is None:
    raise MissingDependencyError("estheory.testing needs hypothesis", "pip install 'estheory[testing]'")

from estheory.testing.checks import check_shaping, check_step, check_update, checks
from estheory.testing.failures import Check, Outcome
from estheory.testing.strategies import es_configs, landscapes, noise, reward_vectors, spectra, tensor_shapes

__all__ = [
    "Check",
    "Outcome",
    "check_shaping",
    "check_step",
    "check_update",
    "checks",
    "es_configs",
    "landscapes",
    "noise",
    "reward_vectors",
    "spectra",
    "tensor_shapes",
]
