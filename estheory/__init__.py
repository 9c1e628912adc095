"""Explain and predict the geometry of evolution-strategies fine-tuning of language models.

Names are imported when they are first used, so that ``import estheory`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from estheory.cosine_laws import CorrelationLaw, CosineLaw
    from estheory.errors import ConfigError, DataError, EstheoryError, OutputError
    from estheory.landscape import Signal, linear_signal
    from estheory.laws import ChiLaw, Law, NormalLaw, PointLaw, SquaredLaw
    from estheory.quantities import Measurement, Prediction, Quantity, Verdict
    from estheory.rules import ESConfig, UpdateConvention
    from estheory.theory.grpo import GRPOConfig
    from estheory.theory.predictions import Forecast, predict
    from estheory.validation.judge import judge

_HOMES = {
    "estheory.errors": ("ConfigError", "DataError", "EstheoryError", "OutputError"),
    "estheory.landscape": ("Signal", "linear_signal"),
    "estheory.cosine_laws": ("CorrelationLaw", "CosineLaw"),
    "estheory.laws": ("ChiLaw", "Law", "NormalLaw", "PointLaw", "SquaredLaw"),
    "estheory.quantities": ("Measurement", "Prediction", "Quantity", "Verdict"),
    "estheory.rules": ("ESConfig", "UpdateConvention"),
    "estheory.theory.grpo": ("GRPOConfig",),
    "estheory.theory.predictions": ("Forecast", "predict"),
    "estheory.validation.judge": ("judge",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ChiLaw",
    "ConfigError",
    "CorrelationLaw",
    "CosineLaw",
    "DataError",
    "ESConfig",
    "EstheoryError",
    "Forecast",
    "GRPOConfig",
    "Law",
    "Measurement",
    "NormalLaw",
    "OutputError",
    "PointLaw",
    "Prediction",
    "Quantity",
    "Signal",
    "SquaredLaw",
    "UpdateConvention",
    "Verdict",
    "judge",
    "linear_signal",
    "predict",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its home."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'estheory' has no attribute '{name}'")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
