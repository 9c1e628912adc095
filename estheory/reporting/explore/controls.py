"""What the page asks for and offers: its controls, presets, charts and the rows of its table."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any, Literal

from estheory.quantities import Label, Quantity

Axis = Literal["run", "update"]


@dataclass(frozen=True, kw_only=True)
class Control:
    """A slider with a number field.

    Attributes
    ----------
    name
        Of the input, as in :data:`estheory.reporting.explore.formulas.INPUTS`.
    symbol, title, hint
        As people read it.
    low, high
        Ends of the slider; the field takes more.
    least, most
        What the field takes, ends included.
    whole
        Whether only whole numbers do.
    even
        Whether the slider is linear, not logarithmic.
    """

    name: str
    symbol: str
    title: str
    hint: str
    low: float
    high: float
    least: float
    most: float
    whole: bool = False
    even: bool = False


GROUPS: dict[str, tuple[Control, ...]] = {
    "The run": (
        Control(
            name="dim",
            symbol="d",
            title="trainable parameters",
            hint="",
            low=1e4,
            high=1e13,
            least=1e4,
            most=1e15,
            whole=True,
        ),
        Control(
            name="sigma",
            symbol="σ",
            title="perturbation scale",
            hint="",
            low=1e-5,
            high=0.1,
            least=1e-12,
            most=1e6,
        ),
        Control(name="alpha", symbol="α", title="step size", hint="", low=1e-6, high=0.1, least=1e-12, most=1e6),
        Control(
            name="population",
            symbol="N",
            title="population",
            hint="",
            low=2,
            high=4096,
            least=2,
            most=1e9,
            whole=True,
        ),
        Control(name="steps", symbol="T", title="steps", hint="", low=1, high=1e5, least=1, most=1e9, whole=True),
    ),
    "The reward: assumed, until a pilot measures it": (
        Control(
            name="reliability",
            symbol="ρ²",
            title="reliability",
            hint="share of a member's reward variance that is linear in its noise",
            low=0.0,
            high=1.0,
            least=0.0,
            most=1.0,
            even=True,
        ),
        Control(
            name="member_std",
            symbol="S",
            title="reward spread",
            hint="standard deviation of a member's reward",
            low=1e-3,
            high=10.0,
            least=1e-12,
            most=1e9,
        ),
        Control(
            name="gap",
            symbol="gap",
            title="smoothing gap",
            hint="reward of the model less the mean of its members'",
            low=1e-6,
            high=1.0,
            least=0.0,
            most=1e9,
        ),
    ),
    "Other behaviour": (
        Control(
            name="fisher_trace",
            symbol="tr F",
            title="Fisher trace",
            hint="per token; estheory probe measures it, 4e3 to 1e4 for SmolLM2-135M",
            low=1.0,
            high=1e7,
            least=0.0,
            most=1e15,
        ),
    ),
}
"""Controls by heading."""

CONTROLS = tuple(control for group in GROUPS.values() for control in group)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A published setting. What its rewards held is not published, and stays as it is on the page.

    Attributes
    ----------
    title
        On its button.
    source
        The publication.
    note
        Of what run.
    values
        By input; ``shaping`` too.
    """

    title: str
    source: str
    note: str
    values: dict[str, float | str]


_QWEN_3B: dict[str, float | str] = {
    "dim": 3_085_938_688,
    "sigma": 0.001,
    "alpha": 0.0005,
    "population": 30,
    "shaping": "zscore",
}
PRESETS = (
    Preset(
        title="paper",
        source="arXiv:2604.01499",
        note="Qwen3-4B, 400 steps.",
        values={
            "dim": 4_022_468_096,
            "sigma": 0.0015,
            "alpha": 0.00075,
            "population": 30,
            "steps": 400,
            "shaping": "zscore",
        },
    ),
    Preset(
        title="es-at-scale",
        source="arXiv:2509.24372",
        note="Qwen2.5-3B on Countdown, as the command of its accelerated version runs it.",
        values={**_QWEN_3B, "steps": 1000},
    ),
    Preset(
        title="es-awd",
        source="arXiv:2605.30148",
        note="Qwen2.5-3B on Countdown, without the anchor, which this page does not have.",
        values={**_QWEN_3B, "steps": 500},
    ),
)
REWARD: dict[str, float] = {"reliability": 0.2, "member_std": 0.1, "gap": 0.01, "fisher_trace": 5000.0}
"""What is assumed of the reward until a pilot says more."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A quantity in the table.

    Attributes
    ----------
    quantity
        Its name is that of a formula.
    label
        Of its prediction; the norm's is ``large-N`` where its signal steers a run of several steps.
    spread
        What its spread is, where it has no interval.
    """

    quantity: Quantity
    label: Label
    spread: str = ""


_EXPECTED = "expected value"
ROWS = (
    Row(quantity=Quantity.DISPLACEMENT_NORM, label="exact"),
    Row(quantity=Quantity.KL_DRIFT, label="small-step", spread="mean, of the walk alone; its spread needs tr F²"),
    Row(quantity=Quantity.ES_GRPO_COSINE_BOUND, label="exact", spread="a bound"),
    Row(quantity=Quantity.PROGRESS_PER_STEP, label="exact", spread=_EXPECTED),
    Row(quantity=Quantity.REWARD_GAIN_PER_STEP, label="exact", spread=_EXPECTED),
    Row(quantity=Quantity.DIFFUSION_COST_PER_STEP, label="small-step", spread=_EXPECTED),
    Row(quantity=Quantity.NET_GAIN_PER_STEP, label="small-step", spread=_EXPECTED),
)


@dataclass(frozen=True, kw_only=True)
class Line:
    """A curve.

    Attributes
    ----------
    formula
        Its name.
    title
        What stands beside the curve.
    """

    formula: str
    title: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart.

    Attributes
    ----------
    name
        Of its element.
    title, note
        As people read it; the note says which interval is shown.
    axis
        Which selector its horizontal axis follows.
    unit
        Of its values.
    lines
        The first is the one that the heading's number is of.
    band
        Formulas of the lower and the upper end of the first line's interval.
    even
        Whether the vertical axis is linear, not logarithmic.
    """

    name: str
    title: str
    note: str
    axis: Axis
    unit: str
    lines: tuple[Line, ...]
    band: tuple[str, str] | tuple[()] = field(default=())
    even: bool = False


CHARTS = (
    Chart(
        name="norm",
        title="How far it moves",
        note="Norm of the displacement after T steps with its 95 % interval over seeds, narrower than the line for "
        "large models; and the most of it that can follow any one direction.",
        axis="run",
        unit="weight",
        lines=(
            Line(formula="displacement_norm", title="norm"),
            Line(formula="coherent_displacement_bound", title="signal, at most"),
        ),
        band=("displacement_norm_low", "displacement_norm_high"),
    ),
    Chart(
        name="kl",
        title="KL from the base model",
        note="Mean, ½ v tr F, of the walk alone: what follows the gradient adds to it. The spread over seeds needs "
        "tr F² and is not shown; the interval, with raw and two-point, is that of the steps' own lengths.",
        axis="run",
        unit="nat/token",
        lines=(Line(formula="kl_drift", title="mean KL"),),
        band=("kl_drift_low", "kl_drift_high"),
    ),
    Chart(
        name="cosine",
        title="Cosine with a GRPO run, at most",
        note="Bound on the part that signal makes, for any reward; and the noise on top of it, within which 95 % of "
        "seeds stay on either side.",
        axis="run",
        unit="",
        lines=(
            Line(formula="es_grpo_cosine_bound", title="bound"),
            Line(formula="cosine_noise", title="noise, 95 %"),
        ),
    ),
    Chart(
        name="net",
        title="Net reward of one update",
        note="Expected gain on fresh prompts, what the random part of the update costs, and the difference. Gains fall "
        "as a run learns: these are those of the measured model.",
        axis="update",
        unit="reward",
        lines=(
            Line(formula="net_gain_per_step", title="net"),
            Line(formula="reward_gain_per_step", title="gain"),
            Line(formula="diffusion_cost_per_step", title="cost"),
        ),
        even=True,
    ),
    Chart(
        name="progress",
        title="Progress along the gradient",
        note="Expected displacement of one update along the gradient; single updates scatter around it.",
        axis="update",
        unit="weight",
        lines=(Line(formula="progress_per_step", title="progress"),),
    ),
)
AXES: dict[Axis, tuple[str, ...]] = {
    "run": ("steps", "population", "alpha", "sigma", "dim"),
    "update": ("alpha", "population", "sigma"),
}
"""Inputs that may stand on the horizontal axis, the first by default."""


def specification() -> dict[str, Any]:
    """Return all of it as the page's script reads it."""
    rows = [
        {
            "name": str(row.quantity),
            "definition": escape(row.quantity.definition),
            "unit": row.quantity.unit,
            "label": row.label,
            "spread": row.spread,
        }
        for row in ROWS
    ]
    return {
        "controls": [asdict(control) for control in CONTROLS],
        "presets": [asdict(preset) for preset in PRESETS],
        "reward": REWARD,
        "rows": rows,
        "charts": [asdict(chart) for chart in CHARTS],
        "axes": AXES,
    }
