"""Earlier names of modules of theory and simulation, which still import, with a warning."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "simulation.adamw_rounding": "simulation.emulator.adamw",
    "simulation.emulation": "simulation.emulator.emulation",
    "simulation.low_precision": "simulation.emulator.low_precision",
    "simulation.rounded_direct": "simulation.emulator.direct",
    "simulation.rounded_steps": "simulation.emulator.steps",
    "simulation.rounding": "simulation.emulator.emulate",
    "simulation.strata": "simulation.emulator.strata",
    "theory.budgets": "theory.planning.budgets",
    "theory.choices": "theory.planning.choices",
    "theory.comparison": "theory.curved.comparison",
    "theory.dynamics": "theory.curved.dynamics",
    "theory.fluctuations": "theory.curved.fluctuations",
    "theory.landscape_predictions": "theory.curved.predictions",
    "theory.landscapes": "theory.curved.spectra",
    "theory.mean_field_error": "theory.curved.error",
    "theory.plan": "theory.planning.plan",
    "theory.precision": "theory.rounding.precision",
    "theory.precision_predictions": "theory.rounding.predictions",
    "theory.probe_forecast": "theory.probe.forecast",
    "theory.probed_reward": "theory.probe.reward",
    "theory.quadratic": "theory.curved.step",
    "theory.ranges": "theory.curved.ranges",
    "theory.recursion": "theory.curved.recursion",
    "theory.rounded_adamw": "theory.rounding.adamw",
    "theory.rounding_gains": "theory.rounding.gains",
    "theory.spectrum_target": "theory.planning.spectrum_target",
    "theory.stationary": "theory.curved.stationary",
    "theory.targets": "theory.planning.targets",
    "theory.weight_histograms": "theory.rounding.weights",
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
