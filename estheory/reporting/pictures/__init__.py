"""Figures of results, for files and notebooks: one module for each command that draws."""
