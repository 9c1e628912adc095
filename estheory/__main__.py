"""``python -m estheory``."""

from estheory.cli.app import run

run()
