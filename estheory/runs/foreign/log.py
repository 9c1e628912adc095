"""The JSONL log of any code: one object for each step, and the run's hyper-parameters.

A step's object holds ``step`` and any of ``rewards``, ``prompt_rewards``, ``centre_rewards``, ``reward_mean``,
``reward_std``, ``centre_reward``, ``coefficients``, ``seeds``, ``norm`` and ``kl`` (`estheory.runs.view.Step`); other
keys are left alone. Of a step that the log lacks nothing is recorded, and no norm is then judged.

The hyper-parameters stand in a first object without ``step``, or beside the log in ``config.json`` or
``config.toml``, under the names of `estheory.runs.view.Settings`. ``mirrored`` (``interleaved`` or ``halves``) says how
mirrored members are ordered.

The log of an independent vLLM and JAX code, which has ``iteration`` (from 0) for ``step`` and its hyper-parameters in
``run.json``, is read by the same rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from estheory._special import Array
from estheory.errors import DataError
from estheory.files import Problems, note, read_lines, read_object
from estheory.rules import Dtype
from estheory.runs.config_files import typed
from estheory.runs.foreign.rows import STD_FLOOR, and_more, by_step, moves
from estheory.runs.view import (
    BY_COEFFICIENTS,
    BY_REWARDS,
    ForeignRun,
    Given,
    Implementation,
    Settings,
    Step,
)
from estheory.theory.economy.iteration import LARGEST

FOLDER_LOG = "log.jsonl"
_REMEDY = "restore the log, or leave the step out"


def log_file(path: Path) -> Path | None:
    """Return the log that a path names: itself, or ``log.jsonl`` in it; None where there is none."""
    if path.is_file() and path.suffix == ".jsonl":
        return path
    return path / FOLDER_LOG if (path / FOLDER_LOG).is_file() else None


def read_log(path: Path, given: Given, problems: Problems | None) -> ForeignRun:
    """Read a log of any code.

    Parameters and result as of `estheory.runs.foreign.read_foreign`.
    """
    file = log_file(path)
    assert file is not None  # the caller looked
    rows = [_plain(row) for _, row in read_lines(file, problems)]
    head = rows.pop(0) if rows and "step" not in rows[0] else {}
    if lacking := next((row for row in rows if "step" not in row), None):
        raise DataError(f"{file}: a row after the first has no step ({str(lacking)[:60]})", "name its step")
    found = by_step(_from_one(rows), "step", file, problems, consecutive=False)
    if not found:
        raise DataError(f"{file} has no step", "let the run make one, or give the folder of a run")
    settings, halves = _settings(file, head, given)
    damage: dict[str, list[tuple[int, str]]] = {}
    steps = tuple(_step(row, halves, damage) for row in _gapless(found))
    for name, places in damage.items():
        step, why = places[0]
        what = f"{file}, step {step}: {name} is damaged ({why}){and_more(len(places))}"
        note(DataError(what, _REMEDY), problems)
    settings = _completed(settings, steps, file)
    increments, weights, condition, why = _increments(settings, steps, file, problems)
    dim = settings.dim
    norms = {step.step: (step.norm, dim) for step in steps if step.norm is not None and dim is not None}
    unjudged = [why] if why else []
    if dim is None and any(step.norm is not None for step in steps):
        unjudged.append("its norms: the number of trained parameters is not told; say dim beside the hyper-parameters")
    if why := _not_covered(settings):
        increments, weights = np.zeros(0), None
        unjudged.append(why)
    dtype: Dtype = settings.dtype or "float32"
    return ForeignRun(
        path=path,
        format="log",
        steps=steps,
        told=settings,
        increments=increments,
        weights=weights,
        population=(settings.population or 0) // settings.kind.members_per_direction,
        condition=condition,
        keep=1.0 - (settings.anchor_l2 or 0.0),
        pull=settings.anchor_l1 or 0.0,
        logged_norms={step: (norm, count) for step, (norm, count) in norms.items() if step <= len(increments)},
        dtype=dtype,
        sigma=settings.sigma,
        mirrored=bool(settings.antithetic),
        implementations=(
            Implementation(
                update_path=settings.update_path or "accumulated", restore_pairs=settings.restore_pairs or 0
            ),
        ),
        unjudged=tuple(unjudged),
    )


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row under this package's names; the independent code's are translated."""
    if "iteration" not in row or "step" in row:
        return dict(row)
    names = {
        "fitness": "rewards",
        "mean_fitness": "reward_mean",
        "sd_fitness": "reward_std",
        "center_reward": "centre_reward",
    }
    told = {new: row[old] for old, new in names.items() if old in row}
    tell = row.get("tell")
    if isinstance(tell, dict) and "weights_abs_sum" in tell:
        told["coefficients_abs_sum"] = tell["weights_abs_sum"]
    return {"step": row["iteration"] + 1, **told}


def _from_one(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows with steps from 1; some codes count from 0."""
    shift = int(any(row["step"] == 0 for row in rows))
    return [{**row, "step": row["step"] + shift} for row in rows]


def _gapless(found: Mapping[int, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a row for every step up to the last; of one that the log lacks, nothing is recorded."""
    for step in range(1, max(found) + 1):
        yield found.get(step, {"step": step})


def _settings(file: Path, head: Mapping[str, Any], given: Given) -> tuple[Settings, bool]:
    """Return the hyper-parameters, and whether mirrored members are two halves instead of neighbours."""
    told: dict[str, Any] = {}
    for name in ("run.json", "config.toml", "config.json"):
        beside = file.parent / name
        if beside.is_file():
            content = read_object(beside, "restore it, or move it away")
            told |= _named(content["config"]) if name == "run.json" and "config" in content else content
    told |= head
    mirrored = told.get("mirrored")
    if mirrored in ("interleaved", "halves"):
        told["antithetic"] = True
    elif isinstance(mirrored, bool):
        told["antithetic"] = mirrored
    hints = get_type_hints(Settings)
    values: dict[str, Any] = {
        f.name: typed(told[f.name], hints[f.name], f"{file}: {f.name}")
        for f in fields(Settings)
        if told.get(f.name) is not None
    }
    values |= {f.name: value for f in fields(Given) if (value := getattr(given, f.name)) is not None}
    settings = Settings(**{"method": "es", **values})
    for name in ("sigma", "alpha", "population", "dim"):
        value = getattr(settings, name)
        if value is not None and not value > 0:
            raise DataError(f"{file}: {name} = {value}", f"give a {name} > 0")
    return settings, mirrored == "halves"


def _named(config: Mapping[str, Any]) -> dict[str, Any]:
    names = {"prompts_per_member": "prompts", "iterations": "steps"}
    return {names.get(name, name): value for name, value in config.items()}


def _step(row: Mapping[str, Any], halves: bool, damage: dict[str, list[tuple[int, str]]]) -> Step:
    """Return a row as a step, without what is damaged, which is noted by name with its step and why."""
    values: dict[str, Any] = {}
    shapes: dict[str, Callable[[Any], Any]] = {
        **dict.fromkeys(("rewards", "coefficients", "centre_rewards"), lambda value: _array(value, 1)),
        "prompt_rewards": lambda value: _array(value, 2),
        "seeds": lambda value: tuple(int(seed) for seed in value),
        **dict.fromkeys(("reward_mean", "reward_std", "centre_reward", "norm", "kl", "coefficients_abs_sum"), _number),
    }
    for name, parsed in shapes.items():
        if row.get(name) is None:
            continue
        try:
            values[name] = parsed(row[name])
        except (TypeError, ValueError, OverflowError) as error:
            damage.setdefault(name, []).append((row["step"], str(error)))
    members = values.get("prompt_rewards")
    if members is not None and "rewards" not in values:
        values["rewards"] = members.mean(axis=1)
    if (rewards := values.get("rewards")) is not None:
        values.setdefault("reward_mean", float(rewards.mean()))
        values.setdefault("reward_std", float(rewards.std()))
    if (centre := values.get("centre_rewards")) is not None:
        values.setdefault("centre_reward", float(centre.mean()))
    for name in ("rewards", "prompt_rewards", "coefficients"):
        if halves and name in values:
            half = len(values[name]) // 2
            values[name] = np.stack([values[name][:half], values[name][half:]], axis=1).reshape(values[name].shape)
    return Step(step=row["step"], **values)


def _array(value: Any, ndim: int) -> Array:
    sizes = {len(row) for row in value if isinstance(row, list)} if isinstance(value, list) else set()
    if len(sizes) > 1:
        raise ValueError(f"its rows have {min(sizes)} to {max(sizes)} entries, not equally many")
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.zeros(())
    if array.ndim != ndim or not array.size:
        raise ValueError(f"it is no {'list' if ndim == 1 else 'members x prompts table'} of numbers")
    if not np.isfinite(array).all():
        place = ", ".join(str(int(k) + 1) for k in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"entry {place} is no finite number")
    if np.abs(array).max() > LARGEST:
        raise ValueError(f"it holds {np.abs(array).max():g}, too large to square")
    return array


def _number(value: Any) -> float:
    number = float(value)
    if not np.isfinite(number):
        raise ValueError(f"{value} is no finite number")
    if abs(number) > LARGEST:
        raise ValueError(f"{number:g} is too large to square")
    return number


def _completed(settings: Settings, steps: tuple[Step, ...], file: Path) -> Settings:
    """Return the settings with what the steps' lengths tell, which must agree with them."""
    for name in ("rewards", "coefficients"):
        lengths = {len(values): step.step for step in steps if (values := getattr(step, name)) is not None}
        if settings.population is not None:
            odd = {length: step for length, step in lengths.items() if length != settings.population}
        else:
            odd = {length: step for length, step in lengths.items() if length != next(iter(lengths))}
        if odd:
            length, at = next(iter(odd.items()))
            expected = settings.population or next(iter(lengths))
            raise DataError(
                f"{file}: step {at} has {length} {name}, not {expected}", "give --population, or restore it"
            )
        if lengths and settings.population is None:
            settings = replace(settings, population=next(iter(lengths)))
    if settings.population and settings.population % settings.kind.members_per_direction:
        raise DataError(f"{file}: {settings.population} members are no mirrored pairs", "give --population")
    prompts = {step.prompt_rewards.shape[1] for step in steps if step.prompt_rewards is not None}
    if settings.prompts is None and len(prompts) == 1:
        settings = replace(settings, prompts=prompts.pop())
    return settings


def _increments(
    settings: Settings, steps: tuple[Step, ...], file: Path, problems: Problems | None
) -> tuple[Array, Array | None, str, str]:
    """Return the variance that each step added, its weights if known, on what that is conditioned, and what lacks."""
    if settings.alpha is None or settings.population is None:
        lacks = "alpha" if settings.alpha is None else "population"
        return np.zeros(0), None, "", f"its {lacks} is not told; give --{lacks}"
    if all(step.coefficients is not None for step in steps):
        weights = np.array([step.weights(settings) for step in steps])
        return np.sum(weights**2, axis=1), weights, BY_COEFFICIENTS, ""
    if not settings.kind.divides_by_spread:
        lacks = f"its coefficients are not logged, and their squares vary with {settings.shaping}"
        return np.zeros(0), None, "", lacks
    fixed = settings.kind.fixed_variance
    if not fixed and all(step.rewards is not None for step in steps):
        weights = np.array([_zscored(step).weights(settings) for step in steps])
        return np.sum(weights**2, axis=1), weights, BY_REWARDS, ""
    if not fixed or any(step.reward_std is None for step in steps):
        lacks = "rewards' spread (rewards or reward_std)" if fixed else "members' rewards"
        return np.zeros(0), None, "", f"neither its coefficients nor its {lacks} are logged at every step"
    moved = [moves(step.reward_std, f"{file}, step {step.step}", problems) for step in steps]
    return settings.alpha**2 / settings.population * np.array(moved), None, BY_REWARDS, ""


def _zscored(step: Step) -> Step:
    assert step.rewards is not None  # the caller looked
    centred = step.rewards - step.rewards.mean()
    return replace(step, coefficients=centred / (step.rewards.std() + STD_FLOOR))


def _not_covered(settings: Settings) -> str:
    """Return which setting no law of a logged walk covers; empty where one does."""
    if settings.momentum:
        return "no law of a log's norms covers momentum"
    if (settings.anchor_l1 or settings.anchor_l2) and settings.anchor_form != "after":
        return "no law of a log's norms covers an anchor of the form before"
    if settings.anchor_l1 and (settings.dtype or "float32") == "float32":
        return "its L1 anchor: no closed form is conditioned on coefficients, and only 16 bits are emulated"
    if settings.noise not in (None, "gaussian"):
        return f"no law of a log's norms covers {settings.noise} noise"
    return ""
