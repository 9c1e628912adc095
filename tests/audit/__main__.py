"""``python -m tests.audit --minutes 10``: draw, simulate, test, and print the ten worst rows."""

import argparse
import json
import sys
import time
from collections import Counter, defaultdict
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from tests.audit.configurations import draw
from tests.audit.rows import judged, observe

FAMILY = 1e-6
COST = 60_000
"""Random numbers a replica may take."""
TOTAL = 10_000_000
"""Random numbers a configuration may take."""


def level(k):
    """Level of the k-th row, so that all rows together have the family's however many there will be."""
    return FAMILY * 6 / np.pi**2 / k**2


def audit(cases, seconds, report=None):
    """Draw, simulate and test the cases, (seed, number) each, until they or the time are used up."""
    started, rows, refused, coordinates, count, errors = time.monotonic(), [], Counter(), 0, 0, []
    for case in cases:
        if time.monotonic() - started > seconds:
            break
        count += 1
        rng = np.random.default_rng(case)
        try:
            drawn = draw(rng, COST)
        except Exception as error:  # an internal error is a find of its own
            errors.append(f"case {case}: {type(error).__name__}: {error}")
            continue
        if isinstance(drawn, str):
            refused[drawn.split(":")[0]] += 1
            continue
        run = drawn.run
        each = run.population * run.dim * max(run.looks)
        replicas = int(min(4000, max(200, TOTAL // each)))
        batch = max(1, min(replicas, 4_000_000 // (run.population * run.dim)))
        seen = observe(run, replicas, batch, rng)
        coordinates += replicas * each
        warned = any(
            any(word in text for word in ("beyond", "no expansion", "unknown factors"))
            for text in drawn.forecast.warnings
        )
        for prediction in drawn.forecast.predictions:
            if prediction.systematic >= 1:  # the row says that it knows nothing
                continue
            try:
                if (row := judged(case, drawn, prediction, seen, warned, rng)) is None:
                    continue
                rows.append(row)
            except Exception as error:
                errors.append(f"case {case}: {prediction.quantity} {type(error).__name__}: {error}")
                continue
            if report and rows[-1].pvalue < level(len(rows)) and not warned:
                print(json.dumps(vars(rows[-1])), file=report, flush=True)
        if report and count % 25 == 0:
            elapsed = time.monotonic() - started
            print(f"{count} configurations, {len(rows)} rows, {elapsed:.0f} s", file=sys.stderr, flush=True)
    return {
        "configurations": count,
        "refused": dict(refused),
        "coordinates": coordinates,
        "seconds": time.monotonic() - started,
        "rows": rows,
        "errors": errors,
    }


def failures(rows):
    """Rows that fail at the family-wise level, those outside the stated range (a warning says so) left out."""
    return [row for k, row in enumerate(rows, start=1) if row.pvalue < level(k) and not row.warned]


def controls(rows):
    """By quantity, how many rows a deliberately wrong law was refuted in, of how many."""
    found = defaultdict(lambda: [0, 0])
    for row in rows:
        found[row.quantity][0] += row.control < FAMILY
        found[row.quantity][1] += 1
    return dict(found)


def summary(result):
    """The audit in words."""
    rows, lines = result["rows"], []
    bad = failures(rows)
    lines.append(
        f"{result['configurations']} configurations ({sum(result['refused'].values())} refused), {len(rows)} rows, "
        f"{result['coordinates']:.2e} coordinates simulated in {result['seconds'] / 60:.1f} minutes"
    )
    lines.append(
        f"rows that fail at the family-wise level {FAMILY:g}: {len(bad)}; internal errors: {len(result['errors'])}"
    )
    kinds = Counter((row.quantity, row.label) for row in bad)
    lines += [f"  {count} {quantity} [{label}]" for (quantity, label), count in kinds.most_common()]
    lines.append("inside the 95 % and 99 % intervals, by label:")
    for label in sorted({row.label for row in rows}):
        shares = [row.coverage for row in rows if row.label == label and row.coverage and not row.warned]
        if shares:
            means = {lv: float(np.mean([s[lv] for s in shares])) for lv in (0.95, 0.99)}
            lines.append(f"  {label}: {means[0.95]:.4f}, {means[0.99]:.4f} over {len(shares)} rows")
    lines.append("negative controls, a law off by 0.3 of its mean and spread, refuted in:")
    lines += [f"  {quantity}: {hit} of {total}" for quantity, (hit, total) in sorted(controls(rows).items())]
    lines.append("the ten worst rows:")
    lines += [str(row) for row in sorted((r for r in rows if not r.warned), key=lambda r: r.pvalue)[:10]]
    lines += ["internal error: " + error for error in result["errors"]]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--configurations", type=int, default=10**9)
    parser.add_argument("--first", type=int, default=0, help="Number of the first configuration.")
    parser.add_argument("--rows", type=Path, help="Write failing rows to this file as they are found, as JSON lines.")
    parser.add_argument("--cases", type=Path, help="Draw the cases of such a file again, instead of new ones.")
    options = parser.parse_args()
    if options.cases:
        found = {tuple(json.loads(line)["case"]) for line in options.cases.read_text().splitlines()}
        cases = sorted(found)
    else:
        cases = ((options.seed, k) for k in range(options.first, options.first + options.configurations))
    with options.rows.open("w") if options.rows else nullcontext(None) as report:
        result = audit(cases, 60 * options.minutes, report)
    print(summary(result))
    return 1 if failures(result["rows"]) or result["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
