"""What a pilot or a probe measured, in place of the options that it measures."""

# no postponed annotations: see options.py

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from estheory.cli.emit import warn
from estheory.cli.options import CommonOptions
from estheory.errors import ConfigError, DataError
from estheory.files import read_object


@dataclass(frozen=True, kw_only=True)
class MeasuredOptions:
    """Files of measurements."""

    panel: ClassVar[str] = "Signal in the rewards"

    pilot: Annotated[
        Path | None, typer.Option(help="JSON of estheory pilot, in place of --gradient-norm and --reward-std.")
    ] = None
    probes: Annotated[
        Path | None, typer.Option(help="JSON of estheory probe, in place of --reliability, --fisher-trace, ...")
    ] = None


NOT_OPTIONS = ("curvature_trace", "even_variance")
"""What files measure beyond the options."""
_OF_PROBES = ("fisher_trace", "fisher_square_trace")
_REMEDY = "give the JSON document that the command wrote"


def measured(common: CommonOptions, files: MeasuredOptions, given: Mapping[str, Any]) -> dict[str, float]:
    """Return options by name as files measured them, those that were not given; says what limits them.

    `given`: what was given on the command line, which wins.
    """
    found: dict[str, float] = {}
    if files.pilot is not None and files.probes is not None:
        raise ConfigError("--pilot and --probes both tell the signal", "give one")
    if files.pilot is not None:
        found = _of_pilot(common, files.pilot)
    if files.probes is not None:
        found = _of_probes(common, files.probes)
        _require_same(files.probes, given)
    if "fisher_trace" in given:  # of another behaviour than the probed one
        found = {name: value for name, value in found.items() if not name.startswith("signal_curvature")}
    if "reliability" in given:
        found = {name: value for name, value in found.items() if name not in ("gradient_norm", "reward_std")}
    _require_sigma(files.pilot or files.probes, found, given)
    return {name: value for name, value in found.items() if name not in given}


def _require_same(path: Path, given: Mapping[str, Any]) -> None:
    """Refuse probes of another model than the one that is given, or with weights stored otherwise."""
    told = read_object(path, _REMEDY)
    for name, remedy in (("model", "probe that model, or leave it out"), ("dtype", "leave --dtype out")):
        if name in given and told.get(name) not in (None, given[name]):
            raise ConfigError(f"{path} probed the {name} {told[name]}, and --{name} is {given[name]}", remedy)


def _require_sigma(path: Path | None, found: Mapping[str, float], given: Mapping[str, Any]) -> None:
    """Refuse a signal that was measured with another perturbation than the one that is given."""
    asked = given.get("sigma", ())
    for sigma in asked if isinstance(asked, tuple) else (asked,):
        if "gradient_norm" in found and "gradient_norm" not in given and sigma != found["sigma"]:
            raise ConfigError(
                f"{path} was measured with sigma {found['sigma']:g}, and --sigma is {sigma:g}",
                "measure at that sigma, or leave --sigma out",
            )


def pilot_document(common: CommonOptions, path: Path) -> dict[str, Any]:
    """Return a pilot's document, which resolves a signal; says what limits it."""
    _of_pilot(common, path)
    return _read(path, "estheory/pilot/1")


def pilot_ends(path: Path) -> tuple[float, float] | None:
    """Return gradient norms at the ends of the pilot's interval; None where either end is no signal."""
    document = _read(path, "estheory/pilot/1")
    sigma, rows = _rows(document, path)
    low, high = rows["odd_variance"]["interval"]
    if low is None or high is None or low <= 0:
        return None
    return float(low) ** 0.5 / sigma, float(high) ** 0.5 / sigma


def _of_pilot(common: CommonOptions, path: Path) -> dict[str, float]:
    document = _read(path, "estheory/pilot/1")
    sigma, rows = _rows(document, path)
    odd, std = float(rows["odd_variance"]["value"]), float(rows["member_reward_std"]["value"])
    if not 0 < odd < std**2:
        raise DataError(
            f"{path} resolves no signal (odd variance {odd:.2g})", "give --gradient-norm, or a larger pilot"
        )
    if rows["odd_variance"]["bound"]:
        warn(common, [f"{path} has no mirrored members: the signal is an upper bound"])
    found = {"sigma": sigma, "gradient_norm": odd**0.5 / sigma, "reward_std": (std**2 - odd) ** 0.5}
    own = {row["quantity"]: row["value"] for row in document["estimates"] if row["sigma"] == sigma}
    if not rows["odd_variance"]["bound"]:
        found["even_variance"] = float(own.get("even_variance") or 0.0)
    gap = next((row["value"] for row in document["estimates"] if row["quantity"] == "smoothing_gap"), None)
    return found | ({"curvature_trace": 2 * gap / sigma**2} if gap is not None and gap > 0 else {})


def _rows(document: Mapping[str, Any], path: Path) -> tuple[float, dict[str, Any]]:
    try:
        sigma = float(document["config"]["sigma"])
        rows = {row["quantity"]: row for row in document["estimates"] if row["sigma"] == sigma}
        return sigma, {name: rows[name] for name in ("odd_variance", "member_reward_std")}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} lacks {error}", _REMEDY) from error


def _of_probes(common: CommonOptions, path: Path) -> dict[str, float]:
    document = _read(path, "estheory/probe/1")
    try:
        rows = [(row["task"], row["quantity"], row["value"]) for row in document["probes"]]
        sigma = float(document["sigma"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} lacks {error}", _REMEDY) from error
    tasks = list(dict.fromkeys(task for task, _, _ in rows))
    first = {quantity: value for task, quantity, value in rows if task == tasks[0]} if tasks else {}
    other = {quantity: value for task, quantity, value in rows if task == tasks[-1]} if len(tasks) > 1 else {}
    found = {name: float(first[name]) for name in _OF_PROBES if first.get(name) is not None}
    odd, std = first.get("odd_variance"), first.get("member_reward_std")
    if odd is not None and std is not None and 0 < odd < std**2:
        found |= {"sigma": sigma, "gradient_norm": odd**0.5 / sigma, "reward_std": (std**2 - odd) ** 0.5}
        found["even_variance"] = float(first.get("even_variance") or 0.0)
    along = next((row for row in document["probes"] if row["quantity"] == "signal_curvature"), None)
    if along is not None and along["task"] == tasks[0] and "fisher_trace" in found:
        found |= {"signal_curvature": float(along["value"]), "signal_curvature_stderr": float(along["stderr"] or 0.0)}
    if first.get("smoothing_gap") is not None and first["smoothing_gap"] > 0:
        found["curvature_trace"] = 2 * float(first["smoothing_gap"]) / sigma**2
    if other.get("off_task_trace") is not None:
        found["off_task_trace"] = float(other["off_task_trace"])
        if other.get("gradient_norm") is not None:
            found["off_task_gradient_norm"] = float(other["gradient_norm"])
        warn(common, [f"{tasks[0]} is taken as the task, {tasks[-1]} as the other one"])
    return found


def _read(path: Path, schema: str) -> dict[str, Any]:
    document = read_object(path, _REMEDY)
    if document.get("schema") != schema:
        raise DataError(f"{path} is no {schema}", _REMEDY)
    return document
