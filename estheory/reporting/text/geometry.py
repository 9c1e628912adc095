"""A measured geometry: its table, its JSON and its figure."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from estheory._special import Array
from estheory.reporting.text.tables import Sheet, Table, short
from estheory.simulation.geometry_results import LINE, PROBES, Geometry
from estheory.theory.signal import coherent_displacement_bound

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
        "probe_distance": (PROBES * start_distance(geometry)).tolist(),
        "reward_along_random": geometry.random_probe.mean(axis=0).tolist(),
    }


def start_distance(geometry: Geometry) -> float:
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
