"""Where a run's configuration begins to be refused, what a step evaluates, and what a sequence takes on disk."""

from dataclasses import replace

import pytest

from estheory.errors import ConfigError
from estheory.runs.config import ESRunConfig, GRPORunConfig
from estheory.runs.sequence import SequenceConfig

ES = ESRunConfig(
    model="tiny-lm", task="addition", steps=40, sigma=0.01, alpha=0.005, population=6, prompts=8, checkpoint_every=0
)
GRPO = GRPORunConfig(model="tiny-lm", task="addition", steps=40, lr=1e-4, checkpoint_every=0)


@pytest.mark.parametrize(
    ("last", "first"),
    [
        ({"train_set": 8}, {"train_set": 7}),
        ({"restore_pairs": 6, "dtype": "bfloat16"}, {"restore_pairs": 7, "dtype": "bfloat16"}),
        ({"decode": "sample", "top_p": 1.0}, {"decode": "sample", "top_p": 1.01}),
        ({"permute_rewards": True}, {"permute_rewards": True, "population": 1, "shaping": "two-point"}),
        ({"stop_net": 0.0, "forecast_every": 1}, {"stop_net": 0.0}),
        ({"mirror_every": 1}, {"mirror_every": 1, "drop_prompt_rewards": True}),
        ({"anchor_form": "after", "anchor_l2": 0.1}, {"anchor_form": "after"}),
        ({"update_path": "sequential"}, {"update_path": "sequential", "momentum": 0.9}),
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_last_value_that_is_taken_and_the_first_that_is_not(last, first):
    assert replace(ES, **last)
    with pytest.raises(ConfigError):
        replace(ES, **first)


@pytest.mark.parametrize(
    ("change", "members", "partners"),
    [({}, 6, 6), ({"antithetic": True}, 6, 0), ({"shaping": "two-point"}, 12, 0)],
    ids=["independent", "pairs", "two-point"],
)
def test_what_a_step_evaluates(change, members, partners):
    run = replace(ES, mirror_every=3, **change)
    watched = [members + partners + 1, members, members]
    assert [run.evaluated(step) for step in range(1, 7)] == watched * 2
    assert [replace(run, mirror_every=0).evaluated(step) for step in (1, 2)] == [members] * 2


def test_what_a_sequence_takes_on_disk():
    """One byte a model: what is kept, two models in the making, and a run's checkpoints or at least one more."""
    both = SequenceConfig(tasks=("addition", "reversal", "sorting"), seeds=(0, 1), configs=(ES, GRPO), retention="none")
    alone = replace(both, configs=(ES,))
    assert alone.bytes_on_disk(1) == 2 + 1
    assert both.bytes_on_disk(1) == 2 + 1 + 4  # AdamW's moments
    assert replace(both, retention="last").bytes_on_disk(1) - both.bytes_on_disk(1) == 2 * 2
    assert replace(both, retention="all").bytes_on_disk(1) - both.bytes_on_disk(1) == 3 * 2 * 2
    often = replace(alone, configs=(replace(ES, checkpoint_every=10),))
    assert often.bytes_on_disk(10) == 10 * (2 + 1 + 40 // 10)
