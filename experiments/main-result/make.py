"""Draw measured over predicted norms of real runs, from recorded data and the published table."""

from __future__ import annotations

import json
import math
import sys
from html import escape
from pathlib import Path

from estheory import ESConfig, GRPOConfig, Quantity, Verdict, judge, predict
from estheory.validation.published import published_pairs

ROOT = Path(__file__).resolve().parents[2]
LOW, HIGH = 0.6, 2.7
LEFT, RIGHT, TOP, ROW, WIDTH = 222, 420, 74, 25, 560
NORMS = (Quantity.DISPLACEMENT_NORM, Quantity.GRPO_DISPLACEMENT_NORM)
COLOURS = {"consistent": "good", "refuted": "bad", "underpowered": "weak"}

STYLE = """
.bg { fill: #ffffff; stroke: #d0d7de } .ink { fill: #1b1f24 } .dim { fill: #57606a } .axis { stroke: #818b98 }
.band { fill: #0072b2; fill-opacity: 0.2 } .good { fill: #005f94 } .weak { fill: #ffffff; stroke: #57606a }
.bad { stroke: #a83a00 } .weak, .bad { stroke-width: 2 }
@media (prefers-color-scheme: dark) {
.bg { fill: #14171c; stroke: #3a424d } .ink { fill: #e6e9ee } .dim { fill: #a3adb8 } .axis { stroke: #656c76 }
.band { fill: #56b4e9; fill-opacity: 0.3 } .good { fill: #6cbef0 } .weak { fill: #14171c; stroke: #a3adb8 }
.bad { stroke: #ff9a5c } }
text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif }
"""

Row = tuple[str, float, float, float, str]
"""What was run, predicted and measured norm, relative half-width of the 95 % band, and the verdict."""


def published_rows() -> list[Row]:
    """Return the published norms with their verdicts."""
    pairs = published_pairs().pairs
    return [_row(verdict) for verdict in judge(pairs) if verdict.prediction.quantity in NORMS]


def _row(verdict: Verdict) -> Row:
    prediction, measurement = verdict.prediction, verdict.measurement
    method = "GRPO" if prediction.quantity is Quantity.GRPO_DISPLACEMENT_NORM else "ES"
    model = measurement.where.split(", ")[1].removesuffix("-Instruct-2507").removesuffix("-Instruct")
    name = f"{method}, {model}, step {prediction.step}"
    mean = prediction.law.mean
    half = 1.96 * prediction.law.std / mean + prediction.systematic
    return name, mean, measurement.value, half, str(verdict.kind)


def own_rows() -> list[Row]:
    """Return the recorded norms of this project's runs of real models."""
    record = json.loads((ROOT / "experiments/first-line/record.json").read_text())
    config = ESConfig(dim=59_184, sigma=0.015, alpha=0.0075, population=30, steps=100)
    forecast = predict(config, grpo=GRPOConfig(lr=1e-4, steps=100))
    seeds = record["tiny_lm_seeds"]
    rows: list[Row] = []
    for label, norm in zip(seeds["labels"], seeds["norms"], strict=True):
        method, seed = label.split("-")
        law = forecast.get(NORMS[method == "grpo"]).law
        outcome = "consistent" if law.pvalue(norm) > 0.05 / len(seeds["norms"]) else "refuted"
        rows.append((f"{method.upper()}, tiny-lm, seed {seed}", law.mean, norm, 1.96 * law.std / law.mean, outcome))
    [step] = [v for v in record["smollm2"]["verdicts"] if v["quantity"] == "displacement_norm"]
    half = 1.96 * step["std"] / step["predicted"]
    rows.append(("ES, SmolLM2-135M, step 2", step["predicted"], step["measured"], half, step["verdict"]))
    return rows


def _x(ratio: float) -> float:
    return LEFT + (RIGHT - LEFT) * math.log(ratio / LOW) / math.log(HIGH / LOW)


def _text(x: float, y: float, words: str, style: str = "ink", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{style}" text-anchor="{anchor}">{escape(words)}</text>'


def _mark(x: float, y: float, outcome: str) -> str:
    """Return a disc where consistent, a cross where refuted, a ring where underpowered: told apart without colours."""
    style = COLOURS[outcome]
    if outcome == "refuted":
        return f'<path class="{style}" d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"/>'
    return f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="{4 if outcome == "underpowered" else 5}"/>'


def figure(rows: list[Row]) -> str:
    """Return the figure as SVG, legible on light and dark pages."""
    bottom = TOP + ROW * len(rows)
    height = bottom + 84
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        "<title>Weight displacement of real runs: measured over predicted</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="bg" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
        _text(20, 28, "How far fine-tuning moved the weights: measured / predicted, nothing fitted"),
        _text(20, 54, "run", "dim"),
        _text(WIDTH - 20, 54, "predicted → measured", "dim", "end"),
    ]
    for tick in (0.7, 1.0, 1.5, 2.0):
        dash = "" if tick == 1.0 else ' stroke-dasharray="2 4"'
        parts.append(f'<path class="axis" d="M{_x(tick):.1f} {TOP - 8}V{bottom}"{dash}/>')
        parts.append(_text(_x(tick), bottom + 18, f"{tick:g}", "dim", "middle"))
    for index, (name, predicted, measured, half, outcome) in enumerate(rows):
        y = TOP + ROW * (index + 0.5)
        left, right = _x(max(1 - half, LOW)), _x(1 + half)
        if half > 0.01:
            parts.append(f'<rect class="band" x="{left:.1f}" y="{y - 7:.1f}" width="{right - left:.1f}" height="14"/>')
        parts.append(_mark(_x(measured / predicted), y, outcome))
        parts.append(_text(20, y + 4, name))
        parts.append(_text(WIDTH - 20, y + 4, f"{predicted:.4g} → {measured:.4g}", "ink", "end"))
    for index, outcome in enumerate(COLOURS):
        parts.append(_mark(25 + 122 * index, bottom + 40, outcome))
        parts.append(_text(36 + 122 * index, bottom + 44, outcome))
    parts.append(f'<rect class="band" x="20" y="{bottom + 55}" width="22" height="14"/>')
    parts.append(_text(50, bottom + 66, "rounding of unknown weights may do this"))
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs/main-result.svg"
    target.write_text(figure(published_rows() + own_rows()), encoding="utf-8")
