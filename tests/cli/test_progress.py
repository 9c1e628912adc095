"""Progress bars: what they count, and that they keep quiet where nobody looks."""

import io

import pytest

from estheory.cli.options import CommonOptions
from estheory.cli.progress import counted


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "quiet", "seen"), [(Terminal, False, True), (Terminal, True, False), (io.StringIO, False, False)]
)
def test_a_bar_is_drawn_on_terminals_alone(monkeypatch, stream, quiet, seen):
    written = stream()
    monkeypatch.setattr("sys.stderr", written)
    with counted(CommonOptions(quiet=quiet), "scoring", 4) as done:
        done(2)
        done(2)
    assert ("scoring" in written.getvalue()) == seen


def test_a_probe_counts_each_evaluation(tmp_path):
    pytest.importorskip("torch")
    from estheory.cli.run_settings import es_config
    from estheory.training.task_probe import probe_task

    asked = {"model": "tiny-lm", "task": "addition", "population": 4, "prompts": 4, "steps": 1}
    kept, parts = tmp_path / "kept.jsonl", []
    probe_task(es_config(asked), kept, 2, parts.append)
    assert sum(parts) == 1 + 4 + 1
    again = []
    probe_task(es_config(asked), kept, 2, again.append)
    assert sum(again) == sum(parts)  # those that were kept count as done
    assert again[0] == 5


def test_lines_take_about_the_evaluations_they_promise(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    from estheory.measurement.line_study import LineDesign, studies_of
    from estheory.models.builtin import get_builtin

    weights = load_file(get_builtin("tiny-lm") / "model.safetensors")
    ends = []
    for seed in (1, 2):
        noise = torch.Generator().manual_seed(seed)
        moved = {n: w + 1e-3 * torch.randn(w.shape, generator=noise) for n, w in weights.items()}
        save_file(moved, tmp_path / f"{seed}.safetensors")
        ends.append(tmp_path / f"{seed}.safetensors")
    parts = []
    design = LineDesign(points=3, directions=4)
    studies_of(tuple(ends), model="tiny-lm", task="addition", prompts=2, design=design, done=parts.append)
    assert 0.7 < sum(parts) / design.evaluations < 1.3
