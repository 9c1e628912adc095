"""Predictions joined with measurements, and judged."""
