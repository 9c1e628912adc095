"""What an evaluation takes, and with that a run."""

# no postponed annotations: see options.py

from dataclasses import dataclass
from typing import Annotated, ClassVar

import typer

from estheory.cli.options import HOURS
from estheory.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class PriceOptions:
    """The time of one evaluation."""

    panel: ClassVar[str] = HOURS

    seconds_per_evaluation: Annotated[
        float | None, typer.Option(help="Time of one member, in pilot on one prompt, for hours.")
    ] = None
    workers: Annotated[int | None, typer.Option(help="How many evaluate at once (default 1).")] = None

    def hours(self, evaluations: int) -> float | None:
        """Return how long evaluations take; None where nobody said how long one takes."""
        seconds, workers = self.seconds_per_evaluation, self.workers
        if seconds is None:
            if workers is not None:
                raise ConfigError("--workers needs the time of one evaluation", "give --seconds-per-evaluation")
            return None
        if not seconds > 0 or not (workers or 1) >= 1:
            raise ConfigError("an evaluation takes a time > 0 on 1 worker or more", "correct them")
        return evaluations * seconds / (workers or 1) / 3600
