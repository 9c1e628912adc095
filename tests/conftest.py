"""One profile for hypothesis: reproducible, and no deadline on a loaded machine. Without torch, the core alone."""

import gc
import os
from importlib.util import find_spec

from hypothesis import settings

gc.disable()  # until everything is collected: what is imported stays
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # waiting threads leave their core to others
os.environ.pop("COLUMNS", None)  # pytest's own processes set it, and outputs would be as narrow as it says
settings.register_profile("estheory", deadline=None, derandomize=True)
settings.load_profile("estheory")

NEED_TORCH = [
    *(
        "integrations",
        "measurement",
        "models",
        "training",
        "cli/test_dry_run_time.py",
        "cli/test_measure.py",
        "cli/test_validate.py",
    ),
    *("validation/foreign_runs.py", "validation/test_foreign.py"),
]
collect_ignore = [] if find_spec("torch") else NEED_TORCH


def pytest_collection_finish() -> None:
    """Leave what is imported by now out of garbage collections: every run of GRPO makes one of its own."""
    gc.collect()
    gc.freeze()
    gc.enable()
