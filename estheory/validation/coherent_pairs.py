"""What the ledger of a run says of its displacement and its KL, walk and coherent part, joined with what came."""

from __future__ import annotations

from collections.abc import Iterator

from estheory.errors import DataError
from estheory.measurement.run_log import run_log
from estheory.quantities import Quantity
from estheory.runs.view import OwnRun, known
from estheory.theory.economy.ledger import ledger
from estheory.theory.economy.steered_run import BOTH, SteeredRun, steered_run
from estheory.validation.judge import Pair, paired


def steered(run: OwnRun) -> SteeredRun | None:
    """Return the walk and the coherent part of a run; None where its rows do not tell them."""
    if run.method != "es":
        return None
    try:
        log = run_log(run)
        return steered_run(ledger(log.updates, log.rules), log.rules, log.dim, log.drift)
    except DataError:
        return None


def coherent_pairs(run: OwnRun) -> Iterator[Pair]:
    """Yield norm and KL of an ES run with its coherent part, at its checkpoints and at its end.

    `run`: one whose rows tell prompts or halves of them apart; others have no pairs.
    Yields: of ``displacement_norm`` (weight) and ``kl_drift`` (nat/token).
    """
    found = steered(run)
    if found is None:
        return
    measured = run.evaluated(Quantity.KL_DRIFT)
    last = len(run.steps)
    for step in sorted({last, *(s for s in run.checkpoints if 1 < s <= last)}):
        for prediction in found.predictions(step):
            if prediction.quantity is Quantity.DISPLACEMENT_NORM:
                norm = known(run.steps[step - 1].norm, "norm")
                yield paired(prediction, norm, where=f"total:{run.path.name}, {BOTH}", source=run.path.name)
            if prediction.quantity is Quantity.KL_DRIFT:
                kl = measured.get((step, prediction.where.removesuffix(f", {BOTH}")))
                if kl is not None:
                    yield paired(prediction, kl[0], where=prediction.where, source=run.path.name)
