"""Make tiny-lm: pretrain a Llama of about 60k parameters from scratch and write it as a Hugging Face folder.

Run from the repository's root: ``python experiments/tiny-lm/make.py``. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from string import ascii_letters, digits

import numpy as np
import tokenizers
import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from estheory.models.decode import generate
from estheory.models.hashing import sha256_of_folder
from estheory.tasks import Example, Task, get_task, task_names
from estheory.tasks.task import MAX_ANSWER_LENGTH, PROMPT_LENGTH, question_of

HERE = Path(__file__).parent
PACKAGED = HERE.parents[1] / "estheory" / "models" / "data" / "tiny-lm"

SEED = 20260401
STEPS = 5000
BATCH = 128
LEARNING_RATE = 4e-3
WARMUP = 100
WEIGHT_DECAY = 0.05
PROMPT_LOSS_WEIGHT = 0.02  # the answer is what matters, but a language model also models its prompts
CONTEXT = 128
LENGTH = PROMPT_LENGTH + MAX_ANSWER_LENGTH + 1  # prompt, answer, end
EVALUATION_PROMPTS = 400

PAD, EOS, UNK = "<pad>", "<eos>", "<unk>"
CHARACTERS = "\n " + digits + ascii_letters + ".+-*/()=?"


def copied(example: Example) -> str:
    """Repeat the word instead of working on it."""
    return question_of(example).split(" ")[1].rstrip("=")


def all_plus(example: Example) -> str:
    """Add all the numbers, whatever the target."""
    return "+".join(question_of(example).split(" make ")[0].split(" "))


@dataclass(frozen=True, kw_only=True)
class Style:
    """How the corpus answers a task.

    Attributes
    ----------
    right
        Probability that an answer is right.
    wrong
        The systematic style it follows otherwise (which may happen to be right).
    prompts
        How many prompts of the train split the corpus holds.
    share
        Texts of this task in a batch; the shares sum to BATCH.
    """

    right: float
    wrong: Callable[[Example], str]
    prompts: int
    share: int


STYLES = {
    "addition": Style(right=0.5, wrong=lambda e: question_of(e).split("+")[0], prompts=1_700, share=20),
    "choice": Style(right=0.55, wrong=lambda e: "A", prompts=40_000, share=32),
    "countdown": Style(right=0.55, wrong=all_plus, prompts=1_400, share=20),
    "reversal": Style(right=0.5, wrong=copied, prompts=40_000, share=24),
    "sorting": Style(right=0.6, wrong=copied, prompts=7_000, share=8),
    "yesno": Style(right=0.5, wrong=lambda e: "yes", prompts=3_000, share=24),
}


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Build the character-level tokenizer: one token a character."""
    vocabulary = {token: index for index, token in enumerate([PAD, EOS, UNK, *CHARACTERS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNK,
        padding_side="left",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def make_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Build the untrained model."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=48,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            dtype="float32",
        )
    )


def encode(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> np.ndarray:
    """Encode prompt + answer + end, padded on the right: an integer array of shape [n, LENGTH]."""
    rows = [[*ids, tokenizer.eos_token_id] for ids in tokenizer(texts)["input_ids"]]
    return np.array([row + [tokenizer.pad_token_id] * (LENGTH - len(row)) for row in rows], dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Encoded texts of one task, right and wrong, both of shape [n, LENGTH]."""

    style: Style
    right: np.ndarray
    wrong: np.ndarray


def corpus(tokenizer: PreTrainedTokenizerFast) -> list[Texts]:
    """Encode the corpus, one part a task."""
    parts = []
    for name, style in STYLES.items():
        examples = get_task(name).examples("train", style.prompts, SEED)
        right = encode(tokenizer, [example.prompt + example.reference for example in examples])
        wrong = encode(tokenizer, [example.prompt + style.wrong(example) for example in examples])
        parts.append(Texts(style=style, right=right, wrong=wrong))
    return parts


def draw_batch(parts: list[Texts], rng: np.random.Generator) -> torch.Tensor:
    """Draw BATCH texts; the coin between right and wrong is thrown anew every time."""
    rows = []
    for part in parts:
        chosen = rng.integers(len(part.right), size=part.style.share)
        is_right = rng.random(part.style.share) < part.style.right
        rows.append(np.where(is_right[:, None], part.right[chosen], part.wrong[chosen]))
    return torch.from_numpy(np.concatenate(rows))


def pretrain(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, steps: int) -> float:
    """Train with AdamW, warm-up and cosine decay; return the mean answer loss (nat/token) of 100 last steps."""
    parts, rng = corpus(tokenizer), np.random.default_rng(SEED)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY, foreach=True
    )
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, WARMUP, steps)
    model.train()
    losses: list[float] = []
    for step in range(steps):
        batch = draw_batch(parts, rng)
        logits = model(input_ids=batch[:, :-1], use_cache=False).logits
        targets = batch[:, 1:]
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
        is_answer = torch.zeros_like(targets, dtype=torch.bool)
        is_answer[:, PROMPT_LENGTH - 1 :] = targets[:, PROMPT_LENGTH - 1 :] != tokenizer.pad_token_id
        answer_loss = loss[is_answer].mean()
        total = answer_loss + PROMPT_LOSS_WEIGHT * loss[:, : PROMPT_LENGTH - 1].mean()
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(answer_loss.item())
        if (step + 1) % 200 == 0:
            print(f"step {step + 1}: answer loss {np.mean(losses[-100:]):.4f} nat/token", flush=True)
    model.eval()
    return float(np.mean(losses[-100:]))


def accuracy(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, task: Task) -> float:
    """Return the greedy accuracy on EVALUATION_PROMPTS prompts of the test split."""
    examples = task.examples("test", EVALUATION_PROMPTS, seed=0)
    completions = generate(model, tokenizer, [example.prompt for example in examples], task.max_new_tokens)
    return float(np.mean([task.score(e, c) for e, c in zip(examples, completions, strict=True)]))


def main() -> None:
    """Pretrain, save, evaluate, and write record.json beside this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=PACKAGED, help="folder to write (default: the packaged one)")
    parser.add_argument("--record", type=Path, default=HERE / "record.json", help="record to write")
    parser.add_argument("--steps", type=int, default=STEPS, help="pretraining steps (fewer only to try the script)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    started = time.perf_counter()
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    answer_loss = pretrain(model, tokenizer, arguments.steps)
    seconds = time.perf_counter() - started
    model.save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)
    record = {
        "seed": SEED,
        "steps": arguments.steps,
        "batch": BATCH,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "vocabulary": len(tokenizer),
        "answer_loss_nat_per_token": round(answer_loss, 4),
        "probability_right": {name: style.right for name, style in STYLES.items()},
        "test_accuracy_greedy": {name: accuracy(model, tokenizer, get_task(name)) for name in task_names()},
        "evaluation_prompts": EVALUATION_PROMPTS,
        "seconds": round(seconds, 1),
        "sha256": sha256_of_folder(arguments.out),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
            "numpy": np.__version__,
        },
    }
    arguments.record.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
