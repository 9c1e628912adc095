"""Cold start of the command line against importing what it cannot do without.

Each round runs every command once as a fresh process, so that drifts of the machine meet all of them alike; a ratio
is taken within its round. Exit code 1 when a median ratio is above the limit.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median, quantiles

ROUNDS = 20
LIMIT = 1.5
ESTHEORY = str(Path(sys.executable).with_name("estheory"))
BASELINE = [sys.executable, "-c", "import numpy, typer, rich.table"]
PAPER = "--dim 4022468096 --sigma 0.0015 --alpha 0.00075 --population 30 --steps 100,200,300,400"
COMMANDS = {
    "estheory predict": [ESTHEORY, "predict", *PAPER.split()],
    "estheory --help": [ESTHEORY, "--help"],
}


def seconds(command: list[str]) -> float:
    """Return the wall time of one run of ``command``."""
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main() -> int:
    """Time all commands, print a table, and return the exit code."""
    commands = {"baseline": BASELINE, **COMMANDS}
    for command in commands.values():
        seconds(command)  # fills the disk cache and compiles bytecode
    rounds = [{name: seconds(command) for name, command in commands.items()} for _ in range(ROUNDS)]
    print(f"{ROUNDS} rounds; baseline: python -c '{BASELINE[2]}'")
    print(f"{'command':<18} {'median s':>9} {'ratio':>6}   quartiles     range")
    worst = 0.0
    for name in commands:
        times = [times[name] for times in rounds]
        ratios = [times[name] / times["baseline"] for times in rounds]
        low, middle, high = quantiles(ratios, n=4)
        print(
            f"{name:<18} {median(times):>9.3f} {middle:>6.2f}   {low:.2f} .. {high:.2f}  "
            f"{min(ratios):.2f} .. {max(ratios):.2f}"
        )
        worst = max(worst, middle)
    print(f"limit {LIMIT:.1f}: {'kept' if worst <= LIMIT else 'missed'}")
    return 0 if worst <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
