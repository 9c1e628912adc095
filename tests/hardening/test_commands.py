"""Whatever is typed, every command keeps its contract: an exit code of the list, one error line, no stray file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as h

from estheory.cli.app import COMMANDS, main
from tests.hardening.damage import examples, says_one_line

WORDS = h.sampled_from(
    [
        *("0", "-1", "nan", "inf", "-inf", "1e-320", "1e308", "1e-30", "x", "", "1,2", "2.5", "1", "3", "1,", ",", "٣"),
        *("zscore", "raw", "two-point", "centered-rank", "low-rank:2", "low-rank:x", "shared-seed", "gaussian"),
        *("before", "after", "bfloat16", "float16", "sequential", "accumulated", "linear", "cosine", "all", "last:1"),
        *("regex:(", "regex:norm", "lora:2", "tiny-lm", "/nonexistent/x", "reversal", "accuracy", "logprob", "sample"),
        *("--json", "--", "-", "1_000", "0x10", "1e5", "true", "hf:", "a" * 300, "\udc80", "é", "10" * 200),
    ]
)
SMALL = h.one_of(WORDS, h.floats(1e-9, 100).map(str), h.integers(-2, 300).map(str))


def typed(*names):
    """Options among these names, each with anything for its value; small counts, so that nothing takes long."""
    return h.dictionaries(h.sampled_from(names), SMALL, max_size=4).map(
        lambda chosen: [f"--{name}={value}" for name, value in chosen.items()]
    )


ES = (
    *("dim", "sigma", "alpha", "population", "steps", "shaping", "noise", "anchor-l2", "anchor-l1", "anchor-form"),
    *("momentum", "dtype", "update-path", "restore-pairs", "weight-std", "reliability", "gradient-norm", "reward-std"),
    *("success", "prompts", "fisher-trace", "fisher-square-trace", "off-task-trace", "off-task-gradient-norm"),
    *("grpo-lr", "grpo-steps", "grpo-schedule", "grpo-norm", "seed", "model", "trainable", "weights", "spectrum"),
)
PLAN = ("max-norm", "max-kl", "max-off-task-loss", "confidence", "target-progress", "target-gain", "curvature-trace")
PLAN += ("gradient-curvature", "max-evaluations")
SIMULATE = ("replicas", "engine", "level", "reward", "start-accuracy", "best-accuracy", "noise-df", "cubic", "preset")
SIMULATE += ("landscape", "device")
RUN = ("model", "task", "data", "form", "steps", "prompts", "trainable", "device", "threads", "checkpoint-every")
RUN += ("evaluate", "evaluation-prompts", "stop-reward", "stop-drift", "resume", "replay", "step", "seed")
RUN_ES = ("sigma", "alpha", "population", "shaping", "noise", "module-sigma", "anchor-l2", "anchor-l1", "momentum")
RUN_ES += ("dtype", "update-path", "restore-pairs", "reward", "decode", "train-set", "executor", "workers")
MEASURE = ("alpha", "population", "steps", "tied-head")

LINES = {
    "predict": (["predict", "--dim", "100", "--sigma", "0.01", "--population", "8"], ES),
    "plan": (
        [
            *["plan", "--dim", "1000", "--sigma", "0.01", "--max-norm", "1", "--target-progress", "0.01"],
            *["--gradient-norm", "1", "--reward-std", "0.1", "--max-evaluations", "10000"],
        ],
        (*ES, *PLAN),
    ),
    "derive": (["derive"], ("format", "seed", "config")),
    "simulate": (["simulate", "--preset", "two-scale", "--replicas", "3", "--steps", "2"], (*ES[1:], *SIMULATE)),
    "simulate geometry": (
        ["simulate", "--geometry", "--preset", "two-scale", "--replicas", "3", "--steps", "2"],
        (*ES[1:], *SIMULATE),
    ),
    "models": (["models"], ("seed", "config")),
    "measure": (["measure"], MEASURE),
    "validate": (["validate", "published"], ("level", *MEASURE)),
    "validate files": (["validate", "BASE", "TUNED", "--steps", "2"], (*ES, "level", "tied-head")),
    "report": (["report", "RUN"], ("level", "model", "alpha", "population", "tied-head")),
    "run es": (["run", "es", "--dry-run"], (*RUN, *RUN_ES)),
    "run grpo": (["run", "grpo", "--dry-run"], (*RUN, "samples", "lr", "schedule")),
    "run sequence": (
        ["run", "sequence", "--dry-run", "--tasks", "reversal,addition"],
        (*RUN, *RUN_ES, "tasks", "methods", "seeds", "grpo-steps", "grpo-prompts", "keep", "lr", "samples"),
    ),
}


@pytest.mark.parametrize("command", LINES)
def test_anything_typed(command, weights, es_run, tmp_path, monkeypatch):
    start, names = LINES[command]
    places = {"BASE": str(weights.base), "TUNED": str(weights.tuned), "RUN": str(es_run)}
    start = [places.get(word, word) for word in start]
    cwd = tmp_path / "here"
    cwd.mkdir()
    monkeypatch.chdir(cwd)
    into = ["--output", str(tmp_path / "said")]
    if command == "report":
        into += ["--out", str(tmp_path / "page.html")]
    flags = h.lists(h.sampled_from(["--json", "--quiet", "--antithetic", "--keep-going", "--nonsense"]), max_size=2)

    @examples(COSTLY.get(command, 8))
    @given(options=typed(*names), flags=flags, words=h.lists(SMALL, max_size=2))
    def check(options, flags, words):
        given_words = [word for word in words if not word.startswith("-")] if command in POSITIONAL else []
        says_one_line(*start, *given_words, *options, *flags, *into)
        assert list(cwd.iterdir()) == []

    check()


COSTLY = {"report": 2, "run es": 3, "run grpo": 3, "run sequence": 3}
"""Commands of which one example takes half a second and more, and how many are drawn."""
POSITIONAL = {"derive", "models", "measure", "validate", "report"}


@examples(80)
@given(words=h.lists(h.one_of(h.sampled_from([*COMMANDS, "--help", "--version", "--cite"]), WORDS), max_size=3))
def test_any_words(words):
    """Commands that would train, download or write where they stand are left out of what is drawn."""
    if not {"demo", "run", "models", "report", "explore"} & set(words):
        says_one_line(*words)


READ_ONLY = [
    ["--version"],
    ["predict", "--dim", "1e6", "--sigma", "0.01", "--population", "8"],
    ["validate", "published"],
    ["run", "es", "--dry-run"],
    ["models", "list"],
]


@pytest.mark.slow
@pytest.mark.parametrize("arguments", READ_ONLY, ids=lambda words: "-".join(words)[:20])
def test_nothing_is_written_where_nobody_asked(arguments, tmp_path):
    home, cwd = tmp_path / "home", tmp_path / "cwd"
    home.mkdir()
    cwd.mkdir()
    home.chmod(0o500)
    environment = {**os.environ, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[2])}
    for name in ("XDG_CACHE_HOME", "ESTHEORY_CACHE", "HF_HOME", "MPLCONFIGDIR"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "estheory", *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 3)
    assert done.stderr == ""
    assert list(home.rglob("*")) == list(cwd.rglob("*")) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "estheory needs a command (predict, plan, "),
        (["run"], "estheory run needs a command (es, grpo, sequence): see estheory run --help"),
        (["models"], "estheory models needs a command (list, get, merge): see estheory models --help"),
        (["predict", "--explain"], "Option '--explain' requires an argument: see estheory predict --help"),
        (["run", "es", "--sigma"], "Option '--sigma' requires an argument: see estheory run es --help"),
        (["run", "es", "--no-such"], "see estheory run es --help"),
        (["no-such"], "No such command 'no-such': see estheory --help"),
        (["validate"], "Missing argument 'TARGET...': see estheory validate --help"),
    ],
)
def test_a_usage_error_says_whose_help_to_see(words, message, capsys):
    code = main(words)
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
