"""Doctests of the rooms that need torch are collected only where torch is installed."""

from importlib.util import find_spec

ROOMS = ("evidence/*", "integrations/*", "measurement/*", "models/*", "training/*")
NEED_TORCH = (*ROOMS, "demo.py", "simulation/torch_direct.py")
collect_ignore_glob = [] if find_spec("torch") else [f"estheory/{place}" for place in NEED_TORCH]
