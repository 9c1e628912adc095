"""Tasks of the package reasoning-gym: ``reasoning-gym:chain_sum``."""

from __future__ import annotations

import inspect
import random
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from estheory.errors import ConfigError, MissingDependencyError
from estheory.tasks.data import SHOT_SEED, Form, Messages
from estheory.tasks.task import Example, Split, first_line, split_of

GYM = "reasoning-gym:"
"""What the names of these tasks begin with."""

SHOTS = 4
MAX_ANSWER = 64  # characters; problems with longer answers are left out
MAX_NEW_TOKENS, CHAT_TOKENS = MAX_ANSWER + 1, 400
_MAX_COMPLETION = 300  # characters that its scorers are given
_BLOCK = 256  # problems of one seed: some families generate all of them at once
_PATIENCE = 1_000  # draws in a row that give nothing new before a split is called exhausted
_INSTRUCTION = "Write the final answer alone on the last line."
_EVALUATING = re.compile(r"\b(?:eval|exec|parse_expr|sympify)\(")


@dataclass(frozen=True, kw_only=True)
class GymExample(Example):
    """An example of reasoning-gym.

    Attributes
    ----------
    entry
        Its question, answer and what its scorer needs, as reasoning-gym made them.
    """

    entry: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class GymTask:
    """A family of procedurally generated problems; a hash of the question decides the split.

    Attributes
    ----------
    family
        Its name in reasoning-gym.
    render
        Makes a prompt of (role, content) messages; None for the few-shot form.
    held_out
        Whether it only measures drift.
    """

    family: str
    render: Callable[[Messages], str] | None = None
    held_out: bool = False

    @property
    def name(self) -> str:
        """The name users type."""
        return GYM + self.family

    @property
    def single_line(self) -> bool:
        """Whether decoding stops at a newline."""
        return self.render is None

    @property
    def max_new_tokens(self) -> int:
        """Tokens that hold every right answer."""
        return MAX_NEW_TOKENS if self.single_line else CHAT_TOKENS

    def examples(self, split: Split, n: int, seed: int) -> list[Example]:
        """Return distinct examples of a split, none of them a worked one.

        Parameters and result as of :meth:`estheory.tasks.task.Task.examples`.
        """
        if split not in ("train", "test"):
            raise ConfigError(f"unknown split {split!r} of task {self.name}", "use 'train' or 'test'")
        if n < 1:
            raise ConfigError(f"{n} examples of task {self.name} were asked for", "ask for at least 1")
        shots = self._shots if self.single_line else []
        prefix = "".join(f"{_question(shot)} {shot['answer']}\n\n" for shot in shots)
        shown = {shot["question"] for shot in shots}
        return [
            GymExample(
                prompt=prefix + _question(entry) if self.render is None else self.render(_messages(entry)),
                reference=f" {entry['answer']}" if self.render is None else entry["answer"],
                entry=entry,
            )
            for entry in self._draw(split, n, seed, shown)
        ]

    def score(self, example: Example, completion: str) -> float:
        """Return 1 if reasoning-gym gives a completion its full score, else 0.

        Parameters and result as of :meth:`estheory.tasks.task.Task.score`.
        """
        return float(self.partial_score(example, completion) == 1.0)

    def partial_score(self, example: Example, completion: str) -> float:
        """Return reasoning-gym's score, cut to [0, 1]; 0 where its scorer fails.

        Parameters and result as of :meth:`estheory.tasks.task.Task.partial_score`.
        """
        if not isinstance(example, GymExample):
            raise ConfigError(f"the example is none of task {self.name}", "score the examples of the task itself")
        lines = completion.strip().splitlines()
        text = first_line(completion) if self.single_line else lines[-1].strip() if lines else ""
        if text == example.entry["answer"]:
            return 1.0
        try:
            score = float(self._source.score_answer(text[:_MAX_COMPLETION], example.entry))
        except Exception:  # a scorer of another package, on what a model wrote
            return 0.0
        return min(max(score, 0.0), 1.0) if score == score else 0.0

    @cached_property
    def _source(self) -> Any:
        return _dataset(self.family, 0, 1)

    @cached_property
    def _shots(self) -> list[Mapping[str, Any]]:
        return self._draw("train", SHOTS, SHOT_SEED, set())

    def _draw(self, split: Split, n: int, seed: int, shown: set[str]) -> list[Mapping[str, Any]]:
        """Return n entries of a split whose questions are not in `shown`."""
        seeds, source = random.Random(f"{self.name}/{split}/{seed}"), None
        found: dict[str, Mapping[str, Any]] = {}
        index = misses = 0
        while len(found) < n:
            try:
                if source is None or index % _BLOCK == 0:
                    source = _dataset(self.family, seeds.getrandbits(31), _BLOCK)
                entry = source[index % _BLOCK]
            except Exception as error:  # a generator of another package
                raise ConfigError(f"{self.name} cannot generate problem {index} ({error})", "choose another") from error
            index, misses = index + 1, misses + 1
            question, answer = str(entry["question"]), str(entry["answer"]).strip()
            fits = 0 < len(answer) <= MAX_ANSWER and "\n" not in answer
            if fits and split_of(question) == split and question not in found and question not in shown:
                found[question] = {**entry, "question": question, "answer": answer}
                misses = 0
            elif misses > _PATIENCE:
                held = f"task {self.name} gave only {len(found)} distinct {split} prompts with one-line answers"
                raise ConfigError(f"{held}, {n} were asked for", "ask for fewer prompts or choose another")
        return list(found.values())


def gym_task(name: str, form: Form = "auto", render: Callable[[Messages], str] | None = None) -> GymTask:
    """Return a task of reasoning-gym.

    `form`: ``auto`` and ``few-shot`` show worked examples; ``chat`` asks in messages.
    `render`: makes a prompt of chat messages: the tokenizer's chat template.
    """
    if form == "likelihood":
        raise ConfigError(f"{name} has no options to compare", "use --form few-shot or chat")
    family = name.removeprefix(GYM)
    scorer = type(_dataset(family, 0, 1)).score_answer
    if _EVALUATING.search(inspect.getsource(sys.modules[scorer.__module__])):
        raise ConfigError(f"the scorer of {name} runs what a model writes as code", "choose another family")
    if form == "chat" and render is None:
        raise ConfigError("the chat form needs a model with a chat template", "use --form few-shot")
    return GymTask(family=family, render=render if form == "chat" else None)


def _dataset(family: str, seed: int, size: int) -> Any:
    try:
        from reasoning_gym.factory import DATASETS, create_dataset  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingDependencyError(
            "tasks of reasoning-gym need that package", "pip install 'estheory[reasoning-gym]'"
        ) from error
    if family not in DATASETS:
        near = [known for known in sorted(DATASETS) if known[:3] == family[:3]]
        raise ConfigError(
            f"reasoning-gym has no family {family!r}",
            f"did you mean {', '.join(near)}" if near else f"choose one such as {', '.join(sorted(DATASETS)[:5])}",
        )
    return create_dataset(family, seed=seed, size=size)


def _question(entry: Mapping[str, Any]) -> str:
    return f"Question: {entry['question']}\nAnswer:"


def _messages(entry: Mapping[str, Any]) -> Messages:
    return [("user", f"{entry['question']}\n\n{_INSTRUCTION}")]
