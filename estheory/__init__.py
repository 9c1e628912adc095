"""Explain and predict the geometry of evolution-strategies fine-tuning of language models.

Names are imported when they are first used, so that ``import estheory`` costs nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from estheory._moved import Finder

if TYPE_CHECKING:
    from estheory.citations import bibtex
    from estheory.cosine_laws import CorrelationLaw, CosineLaw
    from estheory.derivations.catalogue import derive
    from estheory.errors import ConfigError, DataError, EstheoryError, OutputError
    from estheory.landscape import Landscape, Signal, linear_signal
    from estheory.laws import ChiLaw, Law, NormalLaw, PointLaw, SquaredLaw
    from estheory.measurement.accuracy import task_evaluator
    from estheory.measurement.displacement import measure_displacements
    from estheory.measurement.interpolation import interpolate_checkpoints
    from estheory.measurement.kl import token_kl
    from estheory.measurement.reward_files import read_rewards
    from estheory.quantities import Measurement, Prediction, Quantity, Verdict
    from estheory.rules import ESConfig, UpdateConvention
    from estheory.runs.config import ESRunConfig, GRPORunConfig
    from estheory.simulation.emulator.checkpoint_weights import checkpoint_weights
    from estheory.simulation.emulator.low_precision import rounding_of
    from estheory.simulation.engine import simulate
    from estheory.simulation.observed import observe, observed_pairs
    from estheory.theory.curved.predictions import OffTask
    from estheory.theory.curved.spectra import read_landscape
    from estheory.theory.economy.forecast import outlook
    from estheory.theory.economy.iteration import Iteration
    from estheory.theory.economy.later_steps import HeldOutReward
    from estheory.theory.economy.ledger import ledger
    from estheory.theory.economy.ledger_entry import LedgerRules, LoggedUpdate
    from estheory.theory.economy.pilot import pilot
    from estheory.theory.economy.scale import PlannedRun
    from estheory.theory.grpo import GRPOConfig
    from estheory.theory.planning.budgets import DriftBudget
    from estheory.theory.planning.choices import Choices
    from estheory.theory.planning.plan import plan
    from estheory.theory.predictions import Forecast, predict
    from estheory.theory.prompt_batch import PromptBatch
    from estheory.training.es import run_es
    from estheory.training.grpo import run_grpo
    from estheory.validation.checkpoints import displacement_pairs
    from estheory.validation.judge import judge
    from estheory.validation.own_runs import recorded_pairs
    from estheory.validation.published import published_pairs

_HOMES = {
    "estheory.citations": ("bibtex",),
    "estheory.cosine_laws": ("CorrelationLaw", "CosineLaw"),
    "estheory.derivations.catalogue": ("derive",),
    "estheory.errors": ("ConfigError", "DataError", "EstheoryError", "OutputError"),
    "estheory.validation.checkpoints": ("displacement_pairs",),
    "estheory.validation.own_runs": ("recorded_pairs",),
    "estheory.simulation.emulator.checkpoint_weights": ("checkpoint_weights",),
    "estheory.landscape": ("Landscape", "Signal", "linear_signal"),
    "estheory.laws": ("ChiLaw", "Law", "NormalLaw", "PointLaw", "SquaredLaw"),
    "estheory.measurement.accuracy": ("task_evaluator",),
    "estheory.measurement.displacement": ("measure_displacements",),
    "estheory.measurement.interpolation": ("interpolate_checkpoints",),
    "estheory.measurement.kl": ("token_kl",),
    "estheory.measurement.reward_files": ("read_rewards",),
    "estheory.quantities": ("Measurement", "Prediction", "Quantity", "Verdict"),
    "estheory.rules": ("ESConfig", "UpdateConvention"),
    "estheory.simulation.engine": ("simulate",),
    "estheory.simulation.emulator.low_precision": ("rounding_of",),
    "estheory.simulation.observed": ("observe", "observed_pairs"),
    "estheory.theory.planning.budgets": ("DriftBudget",),
    "estheory.theory.planning.choices": ("Choices",),
    "estheory.theory.curved.predictions": ("OffTask",),
    "estheory.theory.curved.spectra": ("read_landscape",),
    "estheory.theory.planning.plan": ("plan",),
    "estheory.theory.economy.forecast": ("outlook",),
    "estheory.theory.economy.later_steps": ("HeldOutReward",),
    "estheory.theory.economy.ledger": ("ledger",),
    "estheory.theory.economy.ledger_entry": ("LedgerRules", "LoggedUpdate"),
    "estheory.theory.economy.iteration": ("Iteration",),
    "estheory.theory.economy.pilot": ("pilot",),
    "estheory.theory.economy.scale": ("PlannedRun",),
    "estheory.theory.grpo": ("GRPOConfig",),
    "estheory.theory.predictions": ("Forecast", "predict"),
    "estheory.theory.prompt_batch": ("PromptBatch",),
    "estheory.runs.config": ("ESRunConfig", "GRPORunConfig"),
    "estheory.training.es": ("run_es",),
    "estheory.training.grpo": ("run_grpo",),
    "estheory.validation.judge": ("judge",),
    "estheory.validation.published": ("published_pairs",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ChiLaw",
    "Choices",
    "ConfigError",
    "CorrelationLaw",
    "CosineLaw",
    "DataError",
    "DriftBudget",
    "ESConfig",
    "ESRunConfig",
    "EstheoryError",
    "Forecast",
    "GRPOConfig",
    "GRPORunConfig",
    "HeldOutReward",
    "Iteration",
    "Landscape",
    "Law",
    "LedgerRules",
    "LoggedUpdate",
    "Measurement",
    "NormalLaw",
    "OffTask",
    "OutputError",
    "PlannedRun",
    "PointLaw",
    "Prediction",
    "PromptBatch",
    "Quantity",
    "Signal",
    "SquaredLaw",
    "UpdateConvention",
    "Verdict",
    "bibtex",
    "checkpoint_weights",
    "derive",
    "displacement_pairs",
    "interpolate_checkpoints",
    "judge",
    "ledger",
    "linear_signal",
    "measure_displacements",
    "observe",
    "observed_pairs",
    "outlook",
    "pilot",
    "plan",
    "predict",
    "published_pairs",
    "read_landscape",
    "read_rewards",
    "recorded_pairs",
    "rounding_of",
    "run_es",
    "run_grpo",
    "simulate",
    "task_evaluator",
    "token_kl",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its home."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'estheory' has no attribute '{name}'")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)


sys.meta_path.append(Finder)
