"""What is drawn while a command works: bars with the time left on a terminal, nothing anywhere else."""

import io
import sys
import time

import numpy as np
import pytest

from estheory.cli import bars
from estheory.cli.options import CommonOptions
from estheory.watching import counted_out, is_watched, watched


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_watcher_hears_of_every_part_and_nobody_afterwards():
    heard = []
    with watched(lambda *told: heard.append(told)):
        assert list(counted_out("counting", iter("abc"), 3)) == ["a", "b", "c"]
        with watched(None):
            list(counted_out("unheard", range(2), 2))
    list(counted_out("unheard", range(2), 2))
    assert heard == [("counting", done, 3) for done in range(4)]
    assert not is_watched()


def test_a_long_computation_gets_a_bar_and_a_short_one_none(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(bars, "PATIENCE", 0.02)
    with bars.bars(CommonOptions().shows_progress):
        list(counted_out("short work", range(3), 3))
        for _ in counted_out("long work", range(3), 3):
            time.sleep(0.03)
    drawn = sys.stderr.getvalue()
    assert "long work" in drawn
    assert "short work" not in drawn


@pytest.mark.parametrize(("given", "drawn"), [({"quiet": True}, False), ({"json": True}, True)])
def test_quiet_draws_nothing_and_json_keeps_stdout_for_itself(monkeypatch, given, drawn):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with bars.bars(CommonOptions(**given).shows_progress):
        assert is_watched() == drawn


def test_nothing_is_drawn_where_stderr_is_no_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with bars.bars(CommonOptions().shows_progress):
        assert not is_watched()


def test_measuring_tells_how_far_it_is(tmp_path):
    save_file = pytest.importorskip("safetensors.numpy").save_file
    from estheory.measurement.displacement import measure_displacements

    for name, value in (("base", 0.0), ("tuned", 1.0)):
        save_file({key: np.full(8, value, np.float32) for key in "ab"}, tmp_path / f"{name}.safetensors")
    heard = []
    with watched(lambda *told: heard.append(told)):
        measure_displacements(tmp_path / "base.safetensors", [tmp_path / "tuned.safetensors"])
    assert heard[-1] == ("comparing weights", 2, 2)
