"""Predictions and verdicts as tables and sentences for people."""
