"""The seconds that `run es --dry-run` and `run grpo --dry-run` foretell against those that the run takes.

    python benchmarks/dry_run.py

Ratios near 1 are right; the aim is 0.7 to 1.3 on a machine that does nothing else.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = (
    ("es", "--task", "reversal", "--steps", "40"),
    ("es", "--task", "reversal", "--steps", "20", "--workers", "2", "--population", "16"),
    ("grpo", "--task", "addition", "--steps", "40", "--gradient-probe", "4"),
)


def call(*arguments: str) -> tuple[str, float]:
    """Return what the command prints and how many seconds it takes, start-up included."""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "estheory", "run", *arguments], capture_output=True, text=True)
    done.check_returncode()
    return done.stdout, time.monotonic() - started


def main() -> None:
    """Print one line per run."""
    for options in RUNS:
        foretold = json.loads(call(*options, "--dry-run", "--json")[0])["seconds"]
        with tempfile.TemporaryDirectory() as folder:
            taken = call(*options, "--out", str(Path(folder) / "run"))[1]
        print(f"{' '.join(options):60s} foretold {foretold:6.1f} s, taken {taken:6.1f} s, ratio {foretold / taken:.2f}")


if __name__ == "__main__":
    main()
