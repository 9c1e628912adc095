"""Runs of other people's code, as their records tell them: JSON, JSON lines and TensorBoard only.

Every reader returns a `estheory.runs.view.ForeignRun`: the steps as they were logged, what each added to the variance
of a flat coordinate (ES) or its learning rate (gradient methods), and where the checkpoints lie. What the code does
not log is taken from its hyper-parameters, or from the caller's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from estheory.errors import ConfigError, DataError
from estheory.files import Problems, reading
from estheory.rules import LARGEST
from estheory.runs.foreign import es_at_scale, es_awd, esvsgrpo, log, trainers
from estheory.runs.view import ForeignRun, Format, Given

_READERS: dict[Format, Callable[[Path, Given, Problems | None], ForeignRun]] = {
    "ESvsGRPO ES": esvsgrpo.read_es,
    "ESvsGRPO GRPO": esvsgrpo.read_grpo,
    "es-awd": es_awd.read_es,
    "es-at-scale": es_at_scale.read_es,
    "TRL": trainers.read_trl,
    "verl": trainers.read_verl,
    "log": log.read_log,
}


def foreign_format(path: Path) -> Format | None:
    """Return whose code wrote a run directory or a log; None if it is none that is known.

    Result: as the names of its files tell; nothing is read.
    """
    found: list[Format] = []
    if (path / esvsgrpo.ES_LOG).is_file():
        found.append("ESvsGRPO ES")
    if (path / esvsgrpo.GRPO_LOG).is_file():
        found.append("ESvsGRPO GRPO")
    if (path / "args.json").is_file() and (path / "iteration_updates").is_dir():
        found.append("es-awd")
    if (path / "trainer_state.json").is_file() or any(path.glob("checkpoint-*/trainer_state.json")):
        found.append("TRL")
    if trainers.verl_folders(path):
        found.append("verl")
    if log.log_file(path) is not None:
        found.append("log")
    if len(found) > 1:
        raise DataError(f"{path} holds records of {' and of '.join(found)}", "give each run a folder of its own")
    if not found and (any(path.glob("events.out.tfevents*")) or es_at_scale.final_weights(path)):
        return "es-at-scale"
    return found[0] if found else None


def read_foreign(path: Path, given: Given | None = None, problems: Problems | None = None) -> ForeignRun:
    """Read a run directory, or a log, of another code.

    `given`: what the caller says of it; wins over the folder's own hyper-parameters.
    `problems`: where to note damaged lines and steps that are missing or doubled; None raises.
    """
    kind, given = foreign_format(path), given or Given()
    if not path.exists():
        raise DataError(f"there is no {path}", "give a run directory or a JSONL log that exists")
    if path.is_file() and not path.stat().st_size:
        raise DataError(f"{path} is empty", "give a run directory or a JSONL log")
    if kind is None:
        codes = "this package, ESvsGRPO, es-awd, es-at-scale, TRL or verl, nor a JSONL log"
        raise DataError(f"{path} is no run directory of {codes}", "give one of these")
    for name in ("shaping", "antithetic"):
        if kind != "log" and getattr(given, name) is not None:
            raise ConfigError(f"the {kind} format tells its {name}", f"leave --{name} out")
    with reading(path), np.errstate(over="ignore", invalid="ignore"):
        run = _READERS[kind](path, given, problems)
        norms = [norm for norm, _ in run.logged_norms.values()]
        for values in (run.increments, run.rates, np.array(norms)):
            if not (np.abs(values) <= LARGEST).all():
                raise ValueError("a step size, a coefficient or a norm is no usable number")
        return run
