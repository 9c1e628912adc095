"""One profile for hypothesis: reproducible, and no deadline on a loaded machine. Without torch, the core alone."""

from importlib.util import find_spec

from hypothesis import settings

settings.register_profile("estheory", deadline=None, derandomize=True)
settings.load_profile("estheory")

NEED_TORCH = [
    *("integrations", "measurement", "models", "training", "cli/test_measure.py", "cli/test_validate.py"),
    *("validation/foreign_runs.py", "validation/test_foreign.py"),
]
collect_ignore = [] if find_spec("torch") else NEED_TORCH
