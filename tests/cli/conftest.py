"""Run the program in process, as the console script does."""

import json
from types import SimpleNamespace

import pytest

from estheory.cli.app import main


@pytest.fixture
def estheory(capsys):
    def call(*arguments):
        code = main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err, json=lambda: json.loads(out))

    return call
