"""Whatever a file holds, the program answers, or says one line and exits with 2; no reader raises anything else."""

import json
import shutil

import pytest
from hypothesis import given

from estheory.errors import EstheoryError
from tests.hardening.damage import DAMAGE, EDITS, bent, bent_json, bent_lines, bent_toml, examples, says_one_line

RUN_FILES = ["config.toml", "environment.json", "steps.jsonl", "probes.json", "evaluations.jsonl"]
BENT = {".toml": bent_toml, ".json": bent_json, ".jsonl": bent_lines}


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """One copy of each folder that is damaged: a file at a time, and restored."""
    made = {}

    def copy_of(folder):
        if folder not in made:
            made[folder] = tmp_path_factory.mktemp("copy") / folder.name
            shutil.copytree(folder, made[folder])
        return made[folder]

    return copy_of


def damaged(original, copy, name, damage):
    raw = (original / name).read_bytes()
    (copy / name).write_bytes(BENT[(original / name).suffix](raw, *damage))
    return lambda: (copy / name).write_bytes(raw)


@pytest.mark.parametrize("name", RUN_FILES)
def test_a_damaged_run(es_run, copies, name):
    copy = copies(es_run)

    @examples(15)
    @given(damage=DAMAGE)
    def check(damage):
        restore = damaged(es_run, copy, name, damage)
        try:
            says_one_line("validate", copy, "--json", "--output", copy.parent / "out.json")
        finally:
            restore()

    check()


@pytest.mark.parametrize(
    "command", ["measure", *(pytest.param(name, marks=pytest.mark.slow) for name in ("report", "resume", "replay"))]
)
@pytest.mark.parametrize("name", RUN_FILES)
def test_other_readers_of_a_damaged_run(es_run, copies, name, command):
    copy = copies(es_run)
    page = copy.parent / "page.html"
    arguments = {
        "measure": ["measure", copy, "--output", copy.parent / "out.txt"],
        "report": ["report", copy, "--out", page, "--output", copy.parent / "out.txt"],
        "resume": ["run", "es", "--resume", copy, "--output", copy.parent / "out.txt"],
        "replay": [
            "run",
            "es",
            "--replay",
            copy,
            "--step",
            3,
            "--out",
            copy.parent / "x",
            "--output",
            copy.parent / "o",
        ],
    }[command]

    @examples(3)
    @given(damage=DAMAGE)
    def check(damage):
        restore = damaged(es_run, copy, name, damage)
        try:
            says_one_line(*arguments)
        finally:
            restore()
            shutil.rmtree(copy.parent / "x", ignore_errors=True)
            if command == "resume":
                shutil.rmtree(copy)
                shutil.copytree(es_run, copy)

    check()


@pytest.mark.parametrize("name", ["config.toml", "steps.jsonl"])
def test_a_damaged_grpo_run(grpo_like, copies, name):
    copy = copies(grpo_like)

    @examples(15)
    @given(damage=DAMAGE)
    def check(damage):
        restore = damaged(grpo_like, copy, name, damage)
        try:
            says_one_line("validate", copy, "--json", "--output", copy.parent / "out.json")
        finally:
            restore()

    check()


FOREIGN = {
    "esvsgrpo": ["config.json", "metrics_baseline.jsonl"],
    "grpo": ["config.json", "metrics_grpo_baseline.jsonl"],
    "awd": ["args.json", "weight_change.jsonl", "iteration_updates/iteration_000003.json", "hellaswag_kl.jsonl"],
    "static": ["args.json"],
    "trl": ["checkpoint-60/trainer_state.json"],
}


@pytest.mark.parametrize(("run", "name"), [(run, name) for run, names in FOREIGN.items() for name in names])
@pytest.mark.parametrize("keep_going", [False, True])
def test_a_damaged_run_of_other_code(foreign, copies, run, name, keep_going):
    copy = copies(foreign / run)

    @examples(8)
    @given(damage=DAMAGE)
    def check(damage):
        restore = damaged(foreign / run, copy, name, damage)
        options = ["--keep-going"] * keep_going
        try:
            says_one_line("validate", copy, "--json", "--output", copy.parent / "out.json", *options)
        finally:
            restore()

    check()


WEIGHTS = {
    "tuned.safetensors": ("tuned.safetensors", None),
    "tuned.pt": ("tuned.pt", None),
    "sharded/model.safetensors.index.json": ("sharded", bent_json),
    "sharded/config.json": ("sharded", bent_json),
    "adapter/adapter_config.json": ("adapter", bent_json),
    "adapter/adapter_model.safetensors": ("adapter", None),
}


def bent_header(raw, edits, changes):
    """A safetensors file whose header has other values, its length field made to fit."""
    length = int.from_bytes(raw[:8], "little")
    header = bent_json(raw[8 : 8 + length], edits, changes)
    return len(header).to_bytes(8, "little") + header + raw[8 + length :]


@pytest.mark.parametrize("name", WEIGHTS)
def test_damaged_weights(weights, copies, name):
    copy = copies(weights.folder)
    target, bend = WEIGHTS[name]
    raw = (weights.folder / name).read_bytes()

    @examples(30)
    @given(damage=DAMAGE)
    def check(damage):
        edits, changes = damage
        if bend is not None:
            content = bend(raw, edits, changes)
        elif changes and name.endswith(".safetensors"):
            content = bent_header(raw, edits, changes)
        else:
            content = bent(raw, edits)
        (copy / name).write_bytes(content)
        try:
            says_one_line("measure", copy / "base.safetensors", copy / target, "--output", copy.parent / "out.txt")
        finally:
            (copy / name).write_bytes(raw)

    check()


SPECTRUM = b"eigenvalue,multiplicity,offset\n10,5,0.3\n0.05,400,0.1\n"
SPECTRUM_TOML = (
    b"dim = 1000\nreward_std = 0.02\nfisher_trace = 3.0\n"
    b"[[spectrum]]\neigenvalue = 10\nmultiplicity = 5\noffset = 0.3\n"
)


@pytest.mark.parametrize(("suffix", "raw"), [("csv", SPECTRUM), ("toml", SPECTRUM_TOML)])
@pytest.mark.parametrize("command", ["predict", "plan", "simulate"])
def test_damaged_spectra(tmp_path, suffix, raw, command):
    file = tmp_path / f"spectrum.{suffix}"
    shared = ["--dim", 1000, "--output", tmp_path / "out"]
    arguments = {
        "predict": ["predict", *shared, "--sigma", 0.01, "--population", 8, "--steps", 5, "--spectrum", file],
        "plan": ["plan", *shared, "--max-norm", 1, "--target-gain", 0.01, "--reward-std", 0.1, "--spectrum", file],
        "simulate": [
            *["simulate", "--landscape", file, "--sigma", 0.01, "--population", 4, "--steps", 3, "--replicas", 4],
            *["--reward-std", 0.1, *shared],
        ],
    }[command]

    @examples(20 if command == "predict" else 3)
    @given(damage=DAMAGE)
    def check(damage):
        file.write_bytes(bent_toml(raw, *damage) if suffix == "toml" else bent(raw, damage[0]))
        says_one_line(*arguments)

    check()


ROWS = [
    {"question": "What is 2 + 3?", "answer": "2 + 3 = 5\n#### 5"},
    {"nums": [3, 4, 5], "target": 17},
    {"question": "Which?", "choices": {"text": ["a", "b", "c"], "label": ["A", "B", "C"]}, "answerKey": "B"},
    {"question": "Which?", "options": ["a", "b"], "answer": 1},
    {"goal": "to", "sol1": "x", "sol2": "y", "label": 0},
    {"passage": "It is.", "question": "is it", "answer": True},
    {
        "data_source": "gsm8k",
        "prompt": [{"role": "user", "content": "What is 2 + 3?"}],
        "reward_model": {"style": "rule", "ground_truth": "5"},
        "extra_info": {"question": "What is 2 + 3?", "answer": "It is 5. #### 5"},
    },
    {
        "data_source": "countdown",
        "prompt": [{"role": "user", "content": "Reach 7 with 3, 4."}],
        "reward_model": {"ground_truth": {"target": 7, "numbers": [3, 4]}},
        "extra_info": {"solution": "3 + 4", "numbers": [3, 4]},
    },
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(row)[:30])
def test_damaged_task_data(tmp_path, row):
    from estheory.tasks.data_files import read_file

    raw = "".join(json.dumps({**row, "id": k}) + "\n" for k in range(3)).encode()
    file = tmp_path / "task.jsonl"

    @examples(40)
    @given(damage=DAMAGE)
    def check(damage):
        file.write_bytes(bent_lines(raw, *damage))
        try:
            for record in read_file(file):
                assert record.question
                assert record.key
        except EstheoryError as error:
            assert "\n" not in str(error)  # noqa: PT017  # any other error is a failure of its own

    check()


def test_damaged_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    from estheory.tasks.data_files import read_file

    file = tmp_path / "task.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([ROWS[0]] * 3), file)
    raw = file.read_bytes()

    @examples(40)
    @given(edits=EDITS)
    def check(edits):
        file.write_bytes(bent(raw, edits))
        try:
            read_file(file)
        except EstheoryError as error:
            assert str(error)  # noqa: PT017

    check()


def test_damaged_data_by_the_command_line(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    raw = "".join(
        json.dumps({"question": f"What is 2 + {k}?", "answer": str(2 + k)}) + "\n" for k in range(20)
    ).encode()

    @examples(20)
    @given(damage=DAMAGE)
    def check(damage):
        (folder / "sums.jsonl").write_bytes(bent_lines(raw, *damage))
        says_one_line(
            *["run", "es", "--dry-run", "--data", folder, "--task", "sums", "--form", "few-shot"],
            *["--output", tmp_path / "out.txt"],
        )

    check()


COMMAND_CONFIGS = {
    "predict": b'dim = 1000\nsigma = 0.01\npopulation = [8, 16]\nsteps = 5\nshaping = "raw"\nantithetic = false\n',
    "plan": b"dim = 1000\nsigma = 0.01\nmax_norm = 1\ntarget_progress = 0.01\ngradient_norm = 1.0\nreward_std = 0.1\n",
    "simulate": b'preset = "two-scale"\nreplicas = 4\nsteps = 3\nlevel = 0.001\nseed = 1\n',
    "derive": b'format = "latex"\n',
    "validate": b"level = 0.05\n",
    "measure": b'steps = "2"\nalpha = 0.01\npopulation = 8\n',
}


@pytest.mark.parametrize("command", COMMAND_CONFIGS)
def test_damaged_configs_of_commands(tmp_path, weights, command):
    file, raw = tmp_path / "config.toml", COMMAND_CONFIGS[command]
    more = {
        "derive": ["norm-mean"],
        "validate": ["published"],
        "measure": [weights.base, weights.tuned],
    }.get(command, [])

    @examples(25)
    @given(damage=DAMAGE)
    def check(damage):
        file.write_bytes(bent_toml(raw, *damage))
        says_one_line(command, *more, "--config", file, "--output", tmp_path / "out.txt")

    check()


KINDS = ["missing", "empty", "folder", "loop", "zeros"]


def replaced(file, kind):
    """Put something else in place of a file."""
    file.unlink()
    if kind == "empty":
        file.write_bytes(b"")
    elif kind == "folder":
        file.mkdir()
    elif kind == "loop":
        file.symlink_to(file)
    elif kind == "zeros":
        file.write_bytes(b"\0" * 1000)


@pytest.mark.parametrize("kind", KINDS)
def test_something_else_in_the_place_of_a_file(es_run, foreign, weights, tmp_path, kind):
    out = ["--output", tmp_path / "out.txt"]
    calls = [(es_run, name, lambda copy: ["validate", copy]) for name in RUN_FILES]
    calls += [
        (foreign / run, name, lambda copy: ["validate", copy]) for run, names in FOREIGN.items() for name in names
    ]
    calls += [
        (weights.folder, name, lambda copy, target=target: ["measure", copy / "base.safetensors", copy / target])
        for name, (target, _) in WEIGHTS.items()
    ]
    for k, (folder, name, arguments) in enumerate(calls):
        copy = tmp_path / str(k)
        shutil.copytree(folder, copy)
        replaced(copy / name, kind)
        says_one_line(*arguments(copy), *out)
        shutil.rmtree(copy)


@pytest.mark.parametrize("kind", KINDS)
def test_something_else_in_the_place_of_an_argument(tmp_path, kind):
    for number, (option, suffix) in enumerate(
        [("--config", "toml"), ("--spectrum", "csv"), ("--spectrum", "toml"), ("--weights", "safetensors")]
    ):
        file = tmp_path / f"{number}.{suffix}"
        file.write_text("x")
        replaced(file, kind)
        code = says_one_line(
            *["predict", "--dim", 1000, "--sigma", 0.01, "--population", 8, "--dtype", "bfloat16", option, file],
            *["--output", tmp_path / "out.txt"],
        )
        assert code == 2 or (option == "--config" and kind == "empty")
