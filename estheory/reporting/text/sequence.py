"""A sequence of tasks as text: what was learned, what was forgotten, how far the weights went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from estheory.reporting.text.tables import Sheet, Table


def sequence_sheet(summary: Mapping[str, Any]) -> Sheet:
    """Return a table a sequence: accuracy and KL of every task before the first stage and after each."""
    parts: list[Table | str] = []
    tasks = summary["tasks"]
    for row in summary["sequences"]:
        table = Table(
            *("after", ">steps", ">norm", ">from base"),
            *(f">{task}" for task in tasks),
            *(f">KL {task}" for task in tasks),
            title=f"{row['method']}, seed {row['seed']}: accuracy, and KL from the base (nat per token)",
        )
        for k, (accuracy, kl) in enumerate(zip(row["accuracy"], row["kl"], strict=True)):
            moved = ("", "", "")
            if k:
                moved = (str(row["steps"][k - 1]), f"{row['norm'][k - 1]:.4g}", f"{row['norm_from_base'][k - 1]:.4g}")
            values = [f"{value:.3f}" for value in accuracy] + [f"{value:.3g}" for value in kl]
            table.add_row("base" if k == 0 else tasks[k - 1], *moved, *values)
        parts.append(table)
    if "cosines" in summary:
        cosines = summary["cosines"]
        table = Table("cosine at the end", *(f">{label}" for label in cosines["of"]))
        for label, line in zip(cosines["of"], cosines["values"], strict=True):
            table.add_row(label, *(f"{value:.4f}" for value in line))
        parts.append(table)
    return Sheet(*parts)
