"""Earlier names of modules, which still import, with a warning."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "measurement.rewards": "measurement.reward_files",
    "reporting.text.explain": "reporting.text.quantity_notes",
    "simulation.adamw_rounding": "simulation.emulator.adamw",
    "simulation.emulation": "simulation.emulator.effects",
    "simulation.emulator.emulation": "simulation.emulator.effects",
    "simulation.geometry_records": "simulation.geometry_results",
    "simulation.low_precision": "simulation.emulator.low_precision",
    "simulation.members": "simulation.update_steps",
    "simulation.records": "simulation.run_records",
    "simulation.rounded_direct": "simulation.emulator.direct",
    "simulation.rounded_steps": "simulation.emulator.steps",
    "simulation.rounding": "simulation.emulator.emulate",
    "simulation.strata": "simulation.emulator.strata",
    "tasks.files": "tasks.data_files",
    "tasks.limited": "tasks.wrapped",
    "tasks.records": "tasks.schemas",
    "theory.budgets": "theory.planning.budgets",
    "theory.choices": "theory.planning.choices",
    "theory.comparison": "theory.curved.comparison",
    "theory.curved.step_law": "theory.curved.reward_laws",
    "theory.dynamics": "theory.curved.dynamics",
    "theory.economy.members": "theory.economy.pooled_members",
    "theory.fluctuations": "theory.curved.fluctuations",
    "theory.landscape_predictions": "theory.curved.predictions",
    "theory.landscapes": "theory.curved.spectra",
    "theory.mean_field_error": "theory.curved.error",
    "theory.plan": "theory.planning.plan",
    "theory.precision": "theory.rounding.precision",
    "theory.precision_predictions": "theory.rounding.predictions",
    "theory.probe.forecast": "theory.probe.predictions",
    "theory.probe_forecast": "theory.probe.predictions",
    "theory.probed_reward": "theory.probe.reward",
    "theory.quadratic": "theory.curved.step",
    "theory.ranges": "theory.curved.ranges",
    "theory.recursion": "theory.curved.recursion",
    "theory.rewards": "theory.reward_model",
    "theory.rounded_adamw": "theory.rounding.adamw",
    "theory.rounding_gains": "theory.rounding.gains",
    "theory.spectrum_target": "theory.planning.spectrum_target",
    "theory.stationary": "theory.curved.stationary",
    "theory.step_norm": "theory.run_norm",
    "theory.targets": "theory.planning.targets",
    "theory.weight_histograms": "theory.rounding.weights",
    "training.members": "training.member_rewards",
    "training.probing": "training.run_probes",
    "validation.forecasts": "validation.forecast_pairs",
    "validation.reward_probe": "validation.reward_probe_pairs",
    "validation.rounding": "validation.own_rounding",
    "validation.sequences": "validation.sequence_pairs",
}
"""Earlier name to name, both below ``estheory``."""


class Finder:
    """Finds a module under its earlier name, after all other finders have failed."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return a spec for the names in `MOVED` alone."""
        if name.removeprefix("estheory.") not in MOVED:
            return None
        return ModuleSpec(name, Finder)  # type: ignore[arg-type]  # a loader by its methods: importlib.abc costs start-up

    @staticmethod
    def create_module(spec: ModuleSpec) -> None:
        """Leave the making of the module to the import system: `exec_module` replaces it."""

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        """Put the module of today in the place of the one that was asked for."""
        home = "estheory." + MOVED[module.__name__.removeprefix("estheory.")]
        warnings.warn(f"{module.__name__} is {home} now", DeprecationWarning, stacklevel=2)
        sys.modules[module.__name__] = import_module(home)
