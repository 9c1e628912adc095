"""A task of real data, in one of the forms in which a language model reads it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from estheory.errors import ConfigError, DataError
from estheory.tasks.answers import chosen_option, final_answer, same_answer, tagged_answer, yes_or_no
from estheory.tasks.countdown import evaluate
from estheory.tasks.data_files import records_of
from estheory.tasks.record import YES_NO, Record, solution_of
from estheory.tasks.task import Example, Split, first_line, split_of

Form = Literal["auto", "few-shot", "chat", "likelihood"]
Messages = Sequence[tuple[str, str]]

SHOTS = 4
SHOT_SEED = 0
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ASKED_IN_CHAT = {
    "countdown": "Combine all the numbers, each once, with + - * / and parentheses to reach the target. "
    "Write the expression in <answer> </answer> tags.",
    "math": "Solve the problem step by step. On the last line, write only: #### <answer>",
    "choice": "Answer with the letter of the right option only.",
    "reading": "Answer with yes or no only.",
}
_NEW_TOKENS = {"countdown": 48, "math": 192, "choice": 8, "reading": 4}  # one line
_CHAT_TOKENS = {"countdown": 512, "math": 400, "choice": 32, "reading": 16}


@dataclass(frozen=True, kw_only=True)
class RecordExample(Example):
    """An example of a data set.

    Attributes
    ----------
    record
        The problem that it asks.
    """

    record: Record


@dataclass(frozen=True, kw_only=True)
class DataTask:
    """Problems of a data set's files.

    Where the files have train and test parts, these are the splits; otherwise a hash of a problem's content decides.
    Training problems whose content or question, white space and case aside, is in the test split, too, are left out:
    no prompt is in both.

    Attributes
    ----------
    name
        The name users type.
    train, test
        The problems of each split, no two of one content.
    form
        ``few-shot``: :data:`SHOTS` solved training problems, then the question, answered in one line. ``chat``: the
        chat messages of the data set, or an instruction and the question. ``likelihood``: the question; its options
        are compared by log-likelihood.
    render
        For ``chat``: makes a prompt of (role, content) messages.
    held_out
        Whether it only measures drift.
    """

    name: str
    train: tuple[Record, ...]
    test: tuple[Record, ...]
    form: Literal["few-shot", "chat", "likelihood"]
    render: Callable[[Messages], str] | None = None
    held_out: bool = False

    @property
    def single_line(self) -> bool:
        """Whether decoding stops at a newline."""
        return self.form != "chat"

    @property
    def max_new_tokens(self) -> int:
        """Tokens for the longest kind of answer among the families of the data."""
        sizes = _CHAT_TOKENS if self.form == "chat" else _NEW_TOKENS
        return max(sizes[family] for family in self._families)

    def examples(self, split: Split, n: int, seed: int) -> list[Example]:
        """Return distinct examples of a split."""
        if split not in ("train", "test"):
            raise ConfigError(f"unknown split {split!r} of task {self.name}", "use 'train' or 'test'")
        records = self._asked_in_training if split == "train" else self.test
        if not 1 <= n <= len(records):
            held = f"task {self.name} has {len(records)} {split} prompts"
            raise ConfigError(f"{held}, {n} were asked for", "ask for at least 1 and at most all of them")
        drawn = random.Random(f"{self.name}/{split}/{seed}").sample(records, n)
        return [self._example(record) for record in drawn]

    def score(self, example: Example, completion: str) -> float:
        """Return the accuracy of a completion."""
        return float(self.partial_score(example, completion) == 1.0)

    def partial_score(self, example: Example, completion: str) -> float:
        """Return the accuracy; for countdown 1/2 for an expression that uses all numbers but misses the target."""
        if not isinstance(example, RecordExample):
            raise ConfigError(f"the example is none of task {self.name}", "score the examples of the task itself")
        record = example.record
        text = first_line(completion) if self.single_line else completion
        if record.family == "countdown":
            return _countdown_credit(record, tagged_answer(text))
        if record.family == "math":
            return float(same_answer(final_answer(text), record.answer) or same_answer(text, record.answer))
        if record.family == "reading":
            answer = yes_or_no(text)
            return float(answer is not None and YES_NO[not answer] == record.answer)
        chosen = chosen_option(text, record.options)
        return float(chosen is not None and record.options[chosen] == record.answer)

    @cached_property
    def _families(self) -> frozenset[str]:
        return frozenset(record.family for record in (*self.train, *self.test))

    @cached_property
    def _shots(self) -> tuple[Record, ...]:
        if self.form != "few-shot" or len(self.train) <= SHOTS:
            return ()
        return tuple(random.Random(SHOT_SEED).sample(self.train, SHOTS))

    @cached_property
    def _asked_in_training(self) -> tuple[Record, ...]:
        shown = {record.key for record in self._shots}
        return tuple(record for record in self.train if record.key not in shown)

    @cached_property
    def prefix(self) -> str:
        """The worked examples of the few-shot form."""
        return "".join(f"{_question(shot)}{_completion(shot)}\n\n" for shot in self._shots)

    def _example(self, record: Record) -> RecordExample:
        if self.form == "likelihood":
            options = tuple(f" {option}" for option in record.options)
            prompt = f"Question: {record.question}\nAnswer:"
            return RecordExample(prompt=prompt, reference=f" {record.answer}", options=options, record=record)
        if self.form == "few-shot":
            prompt = self.prefix + _question(record)
            return RecordExample(prompt=prompt, reference=_completion(record), record=record)
        render = self.render or _no_template
        messages = record.messages or (("user", f"{_ASKED_IN_CHAT[record.family]}\n\n{_listed(record)}"),)
        reference = _completion(record).strip()
        if record.family == "countdown":
            reference = f"<answer>{reference}</answer>"
        return RecordExample(prompt=render(messages), reference=reference, record=record)


def data_task(
    data: str, name: str, form: Form = "auto", render: Callable[[Messages], str] | None = None
) -> DataTask | None:
    """Return the task of that name in a folder or data set of the hub.

    `form`: ``auto`` compares options by log-likelihood where all problems have some, and is few-shot otherwise.
    `render`: makes a prompt of chat messages: the tokenizer's chat template.
    """
    found = records_of(data, name)
    if found is None:
        return None
    optional = all(record.options for part in found.values() for record in part)
    if form == "likelihood" and not optional:
        raise ConfigError(f"task {name} has problems without options", "use --form few-shot or chat")
    chosen = form if form != "auto" else "likelihood" if optional else "few-shot"
    train, test = _splits(name, found, chosen)
    return DataTask(name=name, train=train, test=test, form=chosen, render=render)


def _splits(name: str, found: dict[str, list[Record]], form: str) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
    """Return the training and the test problems, no content twice, and neither content nor prompt in both."""
    unique: dict[str, tuple[Split, Record]] = {}
    has_both = {"train", "test"} <= found.keys()
    for part in sorted(found, reverse=True):  # test last: it keeps what is in both
        for record in found[part]:
            split: Split = "test" if part == "test" else "train"
            unique[record.key] = (split if has_both else split_of(record.key), record)
    test = tuple(record for split, record in unique.values() if split == "test")
    held = {text for record in test for text in _asked(record, form)}
    train = tuple(r for split, r in unique.values() if split == "train" and not held & _asked(r, form))
    if not train or not test:
        raise DataError(
            f"task {name} has {len(train)} training and {len(test)} test problems",
            "add problems, or train and test files",
        )
    return train, test


def _asked(record: Record, form: str) -> set[str]:
    """Return what the prompt is made of, options aside: two problems may share a question but not their options."""
    own = "\n".join(content for _, content in record.messages) if form == "chat" else ""
    return {" ".join(text.lower().split()) for text in (record.question, own) if text}


def _countdown_credit(record: Record, expression: str) -> float:
    """Return 1 if an expression uses each number once and reaches the target, 1/2 if it only uses them, else 0."""
    try:
        result = evaluate(expression)
    except ValueError:
        return 0.0
    if sorted(result.numbers) != sorted(record.numbers):
        return 0.0
    return 1.0 if result.value == record.target else 0.5


def _listed(record: Record) -> str:
    """Return the question with its options, a letter each."""
    if record.family != "choice" or record.letters:
        return record.question
    lines = [f"{letter}. {option}" for letter, option in zip(_LETTERS, record.options, strict=False)]
    return "\n".join([record.question, *lines])


def _question(record: Record) -> str:
    return f"Question: {_listed(record)}\nAnswer:"


def _completion(record: Record) -> str:
    """Return the right continuation of a question that is decoded."""
    if record.family == "choice":
        return f" {_LETTERS[record.options.index(record.answer)]}"
    if record.family == "countdown":
        return f" {solution_of(record)}"
    return f" {record.worked or record.answer}"


def _no_template(messages: Messages) -> str:
    raise ConfigError("the chat form needs a model with a chat template", "use --form few-shot or likelihood")
