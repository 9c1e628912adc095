"""A measured geometry: its table, its JSON and its figure."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from estheory._special import Array
from estheory.reporting.save_figure import save_figure
from estheory.reporting.text.tables import Sheet, Table, short
from estheory.simulation.geometry_results import LINE, METHODS, PROBES, Geometry
from estheory.theory.signal import coherent_displacement_bound

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMES = {"es": "ES", "sgd": "SGD", "adamw": "AdamW", "grpo": "GRPO-like"}


def _summary(values: Array) -> dict[str, float]:
    """Return mean, and standard deviation over replicas where there are several, of what is defined."""
    values = values[np.isfinite(values)]
    if not values.size:
        return {"mean": math.nan, "std": math.nan}
    return {"mean": float(values.mean()), "std": float(values.std(ddof=1)) if values.size > 1 else math.nan}


def geometry_json(geometry: Geometry) -> dict[str, Any]:
    """Return the measured geometry: means and standard deviations over replicas, curves as means."""
    methods = {
        name: {
            "steps": geometry.config.steps if name == "es" else geometry.runs.steps,
            "reward": _summary(m.reward),
            "displacement_norm": _summary(m.norm),
            "on_task_norm": _summary(np.sqrt(m.on_task_square)),
            "off_task_norm": _summary(np.sqrt(m.off_task_square)),
            "kl_drift": _summary(m.kl),
            "off_task_reward_change": _summary(m.off_task_change),
            "gradient_cosine": _summary(m.gradient_cosine),
            "repeat_cosine": _summary(m.repeat_cosine),
            "reward_along": m.probe.mean(axis=0).tolist(),
        }
        for name, m in geometry.methods.items()
    }
    against = {
        name: {
            "displacement_cosine": _summary(b.cosine),
            "norm_ratio": _summary(geometry.methods["es"].norm / geometry.methods[name].norm),
            "reward_between": b.line.mean(axis=0).tolist(),
            "interpolation_gain": _summary(b.rise[:, LINE.size // 2]),
            "least_rise_over_chord": float(b.rise.min()),
        }
        for name, b in geometry.between.items()
    }
    runs, cost = geometry.runs, geometry.off_task
    return {
        "replicas": geometry.replicas,
        "cosine_floor": 1 / math.sqrt(geometry.config.dim),
        "gradient_runs": {
            "steps": runs.steps,
            "sgd_lr": runs.sgd_lr,
            "adamw_lr": runs.adamw_lr,
            "schedule": runs.schedule,
            "aligned_noise": runs.aligned,
            "dense_noise": runs.dense,
            "groups": runs.group.groups,
            "samples": runs.group.samples,
        },
        "off_task": {
            "fisher_trace": cost.trace,
            "fisher_square_trace": cost.square_trace,
            "off_task_gradient_norm": cost.gradient_norm,
        },
        "methods": methods,
        "es_against": against,
        "line": LINE.tolist(),
        "probe_distance": (PROBES * _unit(geometry)).tolist(),
        "reward_along_random": geometry.random_probe.mean(axis=0).tolist(),
    }


def _unit(geometry: Geometry) -> float:
    """Return the distance from the start to the optimum, weight units."""
    where = geometry.landscape
    return math.sqrt(float(where.multiplicity @ np.where(where.eigenvalue > 0, where.offset, 0.0) ** 2))


def geometry_sheet(geometry: Geometry) -> Sheet:
    """Return two tables: the methods, and ES against each gradient method."""
    table = Table(
        "method", ">steps", ">R - R*", ">||Delta||", ">flat share", ">KL", ">off-task change", ">cos with g", ">repeats"
    )
    for name, m in geometry.methods.items():
        share = float(m.off_task_square.mean() / np.mean(m.norm**2))
        change = _summary(m.off_task_change)
        table.add_row(
            NAMES[name],
            str(geometry.config.steps if name == "es" else geometry.runs.steps),
            short(float(m.reward.mean())),
            short(float(m.norm.mean())),
            f"{share:.1%}",
            short(float(m.kl.mean())),
            f"{short(change['mean'])} +- {short(change['std'], 2)}",
            short(_summary(m.gradient_cosine)["mean"]),
            short(_summary(m.repeat_cosine)["mean"]),
        )
    other = Table("ES against", ">cosine", ">norm ratio", ">rise at the middle", ">best between", ">at")
    for name, b in geometry.between.items():
        line = b.line.mean(axis=0)
        other.add_row(
            NAMES[name],
            short(_summary(b.cosine)["mean"]),
            short(float(np.mean(geometry.methods["es"].norm) / np.mean(geometry.methods[name].norm))),
            short(float(b.rise[:, LINE.size // 2].mean())),
            short(float(line.max())),
            f"{LINE[int(line.argmax())]:.1f}",
        )
    bound = coherent_displacement_bound(geometry.config, float(geometry.config.steps))
    words = [
        f"Geometry of {geometry.replicas} runs a method; repeats: cosine of two runs; floor of any cosine "
        f"1/sqrt(d) = {1 / math.sqrt(geometry.config.dim):.3g}."
    ]
    if bound is not None:
        words.append(f"Whatever the reward, at most {short(bound)} of ES's displacement can be coherent.")
    return Sheet(table, other, *words)


def plot_geometry(geometry: Geometry, path: Path) -> None:
    """Draw displacement and drift, cosines, the lines between end points and rewards along directions."""
    save_figure(path, lambda figure: _draw(geometry, figure.subplots(2, 2)), size=(9.0, 7.0))


def _draw(geometry: Geometry, axes: Any) -> None:
    (split, drift), (line, probe) = axes
    _split_axes(split, geometry)
    names = list(geometry.methods)
    drift.boxplot([geometry.methods[n].off_task_change for n in names], tick_labels=[NAMES[n] for n in names])
    drift.axhline(0.0, color="0.7", linewidth=0.8)
    drift.set_ylabel("off-task reward change (reward)")
    for name in METHODS:
        between = geometry.between[name].line.mean(axis=0)
        (drawn,) = line.plot(LINE, between, "o-", markersize=3, label=f"ES to {NAMES[name]}")
        line.plot(LINE[[0, -1]], between[[0, -1]], "--", linewidth=0.8, color=drawn.get_color())
    line.set_xlabel("position on the line (dashed: chord)")
    line.set_ylabel("R - R* (reward)")
    line.legend(fontsize=8)
    distance = PROBES * _unit(geometry)
    for name in names:
        probe.plot(distance, geometry.methods[name].probe.mean(axis=0), "o-", markersize=3, label=NAMES[name])
    probe.plot(distance, geometry.random_probe.mean(axis=0), "k--", label="random direction")
    probe.set_xlabel("distance along the normalised displacement (weight)")
    probe.set_ylabel("R - R* (reward)")
    probe.legend(fontsize=8)


def _split_axes(axes: Axes, geometry: Geometry) -> None:
    names = list(geometry.methods)
    on = np.array([np.mean(geometry.methods[n].on_task_square) for n in names])
    off = np.array([np.mean(geometry.methods[n].off_task_square) for n in names])
    at = np.arange(len(names))
    axes.bar(at, on, label="curved directions (on-task)")
    axes.bar(at, off, bottom=on, label="flat directions (off-task)")
    axes.set_xticks(at, [NAMES[n] for n in names])
    axes.set_ylabel("E ||Delta||^2 (weight^2)")
    axes.legend(fontsize=8)
