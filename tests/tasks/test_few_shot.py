"""Tasks as ordinary language models read them."""

import pytest

from estheory.tasks import get_task, task_names
from estheory.tasks.few_shot import SHOTS, FewShot
from estheory.tasks.task import question_of


@pytest.mark.parametrize("name", task_names())
def test_same_problems_same_scores(name):
    plain, shot = get_task(name), FewShot(get_task(name))
    assert shot.prefix.count("\n") == SHOTS
    for inner, outer in zip(plain.examples("test", 20, 1), shot.examples("test", 20, 1), strict=True):
        assert outer.prompt == shot.prefix + question_of(inner)
        assert outer.reference == inner.reference
        for completion in (inner.reference, "no", inner.reference + "\n5+5=10", ""):
            assert shot.score(outer, completion) == plain.score(inner, completion)
            assert shot.partial_score(outer, completion) == plain.partial_score(inner, completion)
    assert shot.score(outer, outer.reference) == 1.0


@pytest.mark.parametrize("name", task_names())
def test_worked_examples_are_not_asked_and_the_splits_stay_apart(name):
    shot = FewShot(get_task(name))
    train = shot.examples("train", 600, 3)
    asked = {example.prompt.removeprefix(shot.prefix) for example in train}
    shown = {question_of(example) for example in shot._shots}
    assert len(asked) == 600
    assert not asked & shown
    assert not asked & {e.prompt.removeprefix(shot.prefix) for e in shot.examples("test", 200, 3)}
