"""Predictions from probes made before a run."""
