"""What the shell offers as the value of an option or argument."""

from __future__ import annotations


def models(incomplete: str) -> list[str]:
    """Return the built-in models."""
    from estheory.models.builtin import builtin_models

    return [model.name for model in builtin_models() if model.name.startswith(incomplete)]


def tasks(incomplete: str) -> list[str]:
    """Return the built-in tasks."""
    from estheory.tasks import task_names

    return [name for name in task_names() if name.startswith(incomplete)]


def derivations(incomplete: str) -> list[str]:
    """Return the results that are derived."""
    from estheory.derivations.catalogue import derivations

    return [name for name in derivations() if name.startswith(incomplete)]


def quantities(incomplete: str) -> list[str]:
    """Return the quantities that are predicted or measured."""
    from estheory.quantities import Quantity

    return [name.value for name in Quantity if name.value.startswith(incomplete)]
