"""A page as a demo run of tiny-lm would make it: synthetic data of realistic size, seeded."""

import numpy as np

from estheory.laws import ChiLaw, NormalLaw, PointLaw, SquaredLaw
from estheory.line_scores import Interpolation
from estheory.quantities import Measurement, Prediction, Quantity
from estheory.reporting.page.figures import Band, Series, accuracy_bars, interpolation, norm_path, reward_path
from estheory.reporting.page.page import Section, Table, html_page
from estheory.reporting.page.row_figures import cosines, tensor_ratios
from estheory.validation.judge import judge, without_band

DIM, ALPHA, POPULATION, STEPS = 59_000, 0.0075, 30, 100
SIZES = {"model.embed_tokens.weight": 3648, "model.norm.weight": 48}
for _layer in range(2):
    SIZES |= {
        f"model.layers.{_layer}.{name}.weight": size
        for name, size in {
            "input_layernorm": 48,
            "self_attn.q_proj": 2304,
            "self_attn.k_proj": 2304,
            "self_attn.v_proj": 2304,
            "self_attn.o_proj": 2304,
            "post_attention_layernorm": 48,
            "mlp.gate_proj": 6144,
            "mlp.up_proj": 6144,
            "mlp.down_proj": 6144,
        }.items()
    }
FRACTIONS = np.linspace(0, 1, 11)
LINE = np.array([0.90, 0.905, 0.905, 0.907, 0.922, 0.932, 0.945, 0.943, 0.945, 0.938, 0.935])


def line(fractions, means, stderr):
    """Scores of two prompts with these means and standard errors of the mean."""
    means = np.asarray(means)
    scores = np.stack([means - stderr, means + stderr], axis=1)
    return Interpolation(fractions=np.asarray(fractions), scores=scores)


def norm_law(step):
    return ChiLaw(ALPHA * np.sqrt(step / POPULATION), DIM)


def judged(level=0.05):
    def row(quantity, law, value, where, step=STEPS, stderr=0.0, label="exact", source="arXiv:2604.01499", band=0.0):
        prediction = Prediction(
            quantity=quantity,
            law=law,
            label=label,
            source=source,
            step=step,
            systematic=band,
            assumptions=("independent noise",),
        )
        return prediction, Measurement(quantity=quantity, value=value, stderr=stderr, step=step, where=where)

    ratio = SquaredLaw(ChiLaw(1.0, DIM), 1 / DIM)
    verdicts = judge(
        [
            row(Quantity.DISPLACEMENT_NORM, norm_law(STEPS), 3.3352, "total:es/step_000100"),
            row(Quantity.DISPLACEMENT_NORM, norm_law(STEPS), 3.3301, "total:control/step_000100"),
            row(Quantity.EFFECTIVE_DIMENSION_RATIO, ratio, 1.0012, "total:es/step_000100"),
            row(
                Quantity.GRPO_DISPLACEMENT_NORM, PointLaw(0.66), 0.63, "total:grpo/step_000100", band=0.1, source="ours"
            ),
            row(Quantity.ES_GRPO_COSINE_BOUND, PointLaw(0.22), 0.031, "es|grpo", stderr=0.0041, source="ours"),
            row(Quantity.CHECKPOINT_COSINE, NormalLaw(0.7071, 0.0029), 0.731, "step_000050|step_000100"),
            row(
                Quantity.KL_DRIFT,
                NormalLaw(0.42, 0.11),
                0.366,
                "addition",
                stderr=0.031,
                label="small-step",
                source="ours",
            ),
            row(
                Quantity.INTERPOLATION_GAIN,
                NormalLaw(0.02, 0.01),
                0.024,
                "es|grpo:u=0.6",
                stderr=0.012,
                label="small-step",
            ),
        ],
        level,
    )
    return verdicts, without_band(verdicts, level)


def norm_runs():
    rng = np.random.default_rng(3)
    steps = np.arange(1, STEPS + 1)
    intervals = np.array([norm_law(t).interval(0.95) for t in steps])
    means = np.array([norm_law(t).mean for t in steps])
    band = Band(low=intervals[:, 0], mean=means, high=intervals[:, 1])

    def walk():
        position, norms = np.zeros(DIM), []
        for _ in steps:
            position += ALPHA / np.sqrt(POPULATION) * rng.standard_normal(DIM)
            norms.append(np.linalg.norm(position))
        return norms

    return [
        Series(label="ES", values=walk(), steps=steps, predicted=band),
        Series(label="ES, rewards permuted", values=walk(), steps=steps, predicted=band),
        Series(label="GRPO", values=0.09 * np.sqrt(steps) * (1 - 0.3 * steps / STEPS), steps=steps),
    ]


def reward_runs():
    rng = np.random.default_rng(4)
    steps = np.arange(1, STEPS + 1)

    def rise(end, noise):
        return 0.39 + (end - 0.39) * (1 - np.exp(-steps / 25)) + noise * rng.standard_normal(STEPS)

    return [
        Series(label="ES", values=rise(0.84, 0.015), steps=steps),
        Series(label="ES, rewards permuted", values=rise(0.3, 0.015), steps=steps),
        Series(label="GRPO", values=rise(0.94, 0.035), steps=steps),
    ]


def tensors(sizes=None, seed=5):
    sizes = SIZES if sizes is None else sizes
    rng = np.random.default_rng(seed)
    laws = [SquaredLaw(ChiLaw(1.0, n), 1 / n) for n in sizes.values()]
    low, high = np.array([law.interval(0.99) for law in laws]).T
    ratios = np.array([float(law.sample(rng, 1)[0]) for law in laws])
    ratios[1] = 1 + 1.4 * (high[1] - 1)  # one outside
    return list(sizes), ratios, low, high


def figures(*names):
    """Return those figures by name, without a name all."""
    many = {
        f"model.layers.{i}.{name}.weight": n for i in range(30) for name, n in (("norm", 576), ("up_proj", 884_736))
    }
    bars = [
        Series(label="before", values=[0.39], stderrs=[0.024]),
        Series(label="ES", values=[0.90], stderrs=[0.015]),
        Series(label="ES, rewards permuted", values=[0.30], stderrs=[0.023]),
        Series(label="GRPO", values=[0.94], stderrs=[0.012]),
    ]
    tasks = ["countdown", "addition", "choice", "reversal", "yes/no"]
    sequence = [
        Series(label="before", values=[0.59, 0.61, 0.76, 0.64, 0.865], stderrs=[0.025] * 5),
        Series(label="ES", values=[0.64, 0.995, 0.73, 0.97, 0.545], stderrs=[0.02] * 5),
        Series(label="GRPO", values=[0.64, 1.0, 0.75, 1.0, 0.78], stderrs=[0.02] * 5),
    ]
    pairs = ["ES | GRPO", "ES seed 0 | ES seed 1", "ES | permuted", "GRPO seed 0 | GRPO seed 1"]
    drawn = {
        "norm": lambda: norm_path(norm_runs()),
        "reward": lambda: reward_path(reward_runs()),
        "tensors": lambda: tensor_ratios(*tensors()),
        "many tensors": lambda: tensor_ratios(*tensors(many)),
        "interpolation": lambda: interpolation(line(FRACTIONS, LINE, 0.012)),
        "accuracy": lambda: accuracy_bars(["addition"], bars),
        "sequence": lambda: accuracy_bars(tasks, sequence),
        "cosines": lambda: cosines(pairs, [0.031, -0.005, 0.003, 0.90], DIM**-0.5, [0.22, np.nan, np.nan, np.nan]),
    }
    return {name: drawn[name]() for name in names or drawn}


SECTIONS = {
    "accuracy": (
        "Accuracy",
        "ES and GRPO both raise the accuracy on held-out prompts; ES with rewards permuted between members does not.",
    ),
    "sequence": ("Accuracy over a sequence", "After four tasks ES has lost more of the held-out one than GRPO."),
    "reward": ("Reward", "Rewards of ES and GRPO rise together while those of the control fall."),
    "norm": (
        "Distance from the start",
        "ES walks as far as its hyper-parameters say, with or without a signal, and about five times as far as GRPO.",
    ),
    "tensors": ("Tensors", "Each tensor moves as far as its number of entries says, except where an interval is left."),
    "many tensors": ("Tensors of a larger model", "The same, of 60 tensors."),
    "cosines": ("Directions", "Displacements of ES are as good as unrelated to each other; those of GRPO are not."),
    "interpolation": ("Between ES and GRPO", "The straight line between the two solutions has no barrier."),
}


def page(title="estheory demo: tiny-lm on addition"):
    verdicts, plain = judged()
    drawn = figures()
    summary = (
        "Addition rose from 0.39 to 0.90 with ES and to 0.94 with GRPO, while the control fell to 0.30. "
        "ES moved 3.335 weight units where theory said 3.326.\n\n"
        "Model tiny-lm, 59,000 parameters; N = 30, sigma 0.015, alpha 0.0075, 100 steps; seed 0; 261 seconds on CPU."
    )
    names, ratios, low, high = tensors()
    rows = tuple(
        (name, f"{SIZES[name]:,}", f"{r:.4f}", f"{a:.4f} to {b:.4f}")
        for name, r, a, b in zip(names, ratios, low, high, strict=True)
    )
    table = Table(header=("tensor", ">entries", ">ratio", ">99 % interval"), rows=rows)
    sections = [
        Section(title=title, sentence=sentence, figure_svg=drawn[key], table=table if key == "tensors" else None)
        for key, (title, sentence) in SECTIONS.items()
    ]
    return html_page(title=title, summary=summary, verdicts=verdicts, plain=plain, level=0.05, sections=sections)
