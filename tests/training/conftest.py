"""An uninterrupted run that several tests read."""

from __future__ import annotations

from pathlib import Path

import pytest

from estheory.training.es import run_es
from tests.training.runs import es_config


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of four steps. Tests must not change it."""
    directory = tmp_path_factory.mktemp("run") / "es"
    run_es(es_config(), directory, before_first_step=lambda session: {"trace": session.parameters.dim})
    return directory
