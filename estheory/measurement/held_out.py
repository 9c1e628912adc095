"""Accuracy and drift on held-out prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from estheory.errors import ConfigError
from estheory.measurement.accuracy import accuracy, task_scores
from estheory.measurement.kl import TokenKL, collect_kl, divergences, prompt_logits, prompt_tokens
from estheory.models.decode import check_context, encode_prompts
from estheory.models.load import LoadedModel
from estheory.models.parameters import FlatParameters
from estheory.quantities import Quantity
from estheory.tasks import ChatTask, DataTask, Example, Form, GymTask, Task, get_task, task_names
from estheory.tasks.few_shot import FewShot
from estheory.tasks.wrapped import Limited

LARGE_DIM = 10_000_000
"""From this many parameters on a forward pass over the prompts costs seconds: fewer prompts and probe directions."""
KL_PROMPTS, LARGE_KL_PROMPTS = 64, 8
EVALUATED = (Quantity.ACCURACY, Quantity.KL_DRIFT)
"""What an evaluation writes, a row each."""

TEXT = (ChatTask, DataTask, GymTask)
"""Tasks that are text for any model; the others have a compact form for character-level ones."""

EVALUATION_SEED = 0
"""Draws the held-out prompts: the same ones for every run, so that runs are compared on equal terms."""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """A task and the prompts it is evaluated on.

    Attributes
    ----------
    task
        In the form that the model reads.
    examples
        Its prompts with their answers.
    """

    task: Task
    examples: tuple[Example, ...]


def task_for(
    loaded: LoadedModel, name: str, data: str = "", form: Form = "auto", *, system: str = "", max_new_tokens: int = 0
) -> Task:
    """Return a task in the form that a model reads: compact for a character-level model, text for any other.

    `system`: begins each chat; "" for what the model's chat template has.
    `max_new_tokens`: tokens after which an answer is cut; 0 for the task's own number.
    """
    tokenizer = loaded.tokenizer
    render = chat_renderer(tokenizer, system) if tokenizer.chat_template else None
    task = get_task(name, data=data, form=form, render=render)
    chats = isinstance(task, ChatTask | DataTask | GymTask) and not task.single_line
    if system and not chats:
        raise ConfigError(f"system has no effect on task {name}, which is not asked in chat", "use form chat")
    task = _in_form(loaded, task, name)
    return Limited(task, max_new_tokens) if max_new_tokens else task


def _in_form(loaded: LoadedModel, task: Task, name: str) -> Task:
    tokenizer = loaded.tokenizer
    words = set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens)
    if all(len(word) == 1 for word in words):
        if isinstance(task, TEXT):
            raise ConfigError(
                f"{loaded.name} reads single characters, task {name} is text",
                f"use another model, or one of the tasks {', '.join(task_names())} without --data",
            )
        return task
    return task if isinstance(task, TEXT) else FewShot(task)


def chat_renderer(tokenizer: PreTrainedTokenizerBase, system: str = "") -> Callable[[Sequence[tuple[str, str]]], str]:
    """Return a function that makes a prompt of (role, content) messages by the tokenizer's chat template.

    `system`: begins each chat that has no system message of its own; "" for what the template has.
    Result: from messages to the text that the model continues.
    """
    begins: list[int] = tokenizer("a")["input_ids"]
    adds_start = bool(begins) and tokenizer.bos_token_id is not None and begins[0] == tokenizer.bos_token_id

    def render(messages: Sequence[tuple[str, str]]) -> str:
        begun = messages[-1][0] == "assistant"  # the data set begins the answer itself
        if system and messages[0][0] != "system":
            messages = [("system", system), *messages]
        text = tokenizer.apply_chat_template(
            [{"role": role, "content": content} for role, content in messages],
            tokenize=False,
            add_generation_prompt=not begun,
            continue_final_message=begun,
        )
        return str(text).removeprefix(str(tokenizer.bos_token)) if adds_start else str(text)

    return render


def held_out(loaded: LoadedModel, task: Task, n: int) -> HeldOut:
    """Draw the evaluation prompts of a task, all of them where a chat task has fewer."""
    asked = task.task if isinstance(task, Limited) else task
    if isinstance(asked, ChatTask):
        n = min(n, asked.test_prompts)
    examples = task.examples("test", n, EVALUATION_SEED)
    require_fit(loaded, task, examples)
    return HeldOut(task=task, examples=tuple(examples))


def require_fit(loaded: LoadedModel, task: Task, examples: Sequence[Example]) -> None:
    """Check that the longest prompt and its completion fit the model's context."""
    texts = [example.prompt + max(example.options, key=len, default="") for example in examples]
    chooses = any(example.options for example in examples)
    encoded = encode_prompts(loaded.model, loaded.tokenizer, texts)
    check_context(loaded.model, encoded.ids.shape[1], 0 if chooses else task.max_new_tokens)
    if isinstance(task, Limited) and not chooses:
        answers = loaded.tokenizer([example.reference for example in examples], add_special_tokens=False)["input_ids"]
        shortest = min(map(len, answers))
        if task.max_new_tokens < shortest:
            raise ConfigError(
                f"max-new-tokens {task.max_new_tokens} holds no right answer of task {task.name}",
                f"the shortest has {shortest} tokens: raise max-new-tokens",
            )


def evaluate(
    loaded: LoadedModel, parameters: FlatParameters, base: Tensor, held: HeldOut, batch_size: int
) -> Iterator[dict[str, object]]:
    """Yield a row of evaluations.jsonl for the accuracy of greedy answers, and one for KL(base || model as it is now).

    `loaded`, `parameters`: the model as it is now and its buffer, which is left as it is.
    Yields: ``quantity``, ``value`` (accuracy, or nat per token), ``stderr`` and ``n``, the number of prompts.
    """
    scores = task_scores(loaded.model, loaded.tokenizer, held.task, held.examples, batch_size=batch_size)
    right = accuracy(scores)
    yield {"quantity": right.quantity, "value": right.value, "stderr": right.stderr, "n": len(scores)}
    kl = kl_from_base(loaded, parameters, base, held)
    yield {
        "quantity": Quantity.KL_DRIFT,
        "value": kl.value,
        "stderr": kl.stderr if len(kl.sums) > 1 else 0.0,
        "n": len(kl.sums),
    }


def kl_prompts(loaded: LoadedModel, dim: int, held: HeldOut) -> list[list[int]]:
    """Return the tokens of the prompts on which a task's KL is probed and measured, the same ones for both.

    `dim`: its trainable parameters: a large model gets fewer prompts.
    """
    count = LARGE_KL_PROMPTS if dim >= LARGE_DIM else KL_PROMPTS
    return prompt_tokens(loaded.tokenizer, [example.prompt for example in held.examples[:count]])


def kl_from_base(loaded: LoadedModel, parameters: FlatParameters, base: Tensor, held: HeldOut) -> TokenKL:
    """Measure KL(base || model as it is now); the parameters are as before afterwards.

    `held`: gives the prompts: the first of its examples.
    """
    prompts = kl_prompts(loaded, parameters.dim, held)
    with parameters.restored():
        parameters.vector.copy_(base)
        base_logits = [logits.clone() for logits in prompt_logits(loaded.model, prompts)]
    tuned_logits = prompt_logits(loaded.model, prompts)
    return collect_kl(divergences(a, b) for a, b in zip(base_logits, tuned_logits, strict=True))
