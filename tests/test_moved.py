"""Earlier names of modules import what they are now."""

import importlib
import sys

import pytest

from estheory._moved import MOVED


@pytest.mark.parametrize("name", MOVED)
def test_an_earlier_name_is_the_module_of_today(name):
    sys.modules.pop(f"estheory.{name}", None)
    with pytest.warns(DeprecationWarning, match=f"is estheory.{MOVED[name]} now"):
        found = importlib.import_module(f"estheory.{name}")
    today = importlib.import_module(f"estheory.{MOVED[name]}")
    assert found is today
    assert today.__spec__.name == f"estheory.{MOVED[name]}"


def test_other_names_stay_unknown():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("estheory.theory.nothing_of_the_kind")
