"""Where theory holds for 0/1 rewards of B prompts: python experiments/where-theory-holds/make.py [--figure-only]."""

import csv
import math
import sys
import tomllib
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from estheory.landscape import Landscape
from estheory.quantities import Quantity
from estheory.rules import ESConfig
from estheory.simulation.engine import simulate
from estheory.simulation.named_rewards import sigmoid_reward
from estheory.theory.predictions import predict
from estheory.theory.reward_model import bernoulli_rewards, zscore_overlap

HERE = Path(__file__).parent
FIGURE = HERE.parents[1] / "docs" / "validation" / "where-theory-holds.svg"
MAPS = {
    "progress_gaussian": "one-step progress,\nGaussian formula",
    "progress_bernoulli": "one-step progress,\nexact Bernoulli form",
    "reward_change": "change of E R in {steps} steps,\nmean field",
}


def cell(setting: dict[str, Any], start: float, prompts: int, signal: float) -> dict[str, float]:
    """Relative errors, predicted over simulated - 1, and their standard errors, for one sigma and one B."""
    land = Landscape(
        dim=setting["dim"],
        eigenvalue=np.array([setting["eigenvalue"]], dtype=np.float64),
        multiplicity=np.array([setting["multiplicity"]], dtype=np.float64),
        offset=np.array([setting["offset"]], dtype=np.float64),
    )
    reward = sigmoid_reward(land, start_accuracy=start, best_accuracy=setting["best_accuracy"], prompts=prompts)
    sigma = signal / reward.told.gradient_norm
    run = {"dim": land.dim, "sigma": sigma, "alpha": setting["alpha_over_sigma"] * sigma}
    config = ESConfig(**run, population=setting["population"], steps=setting["steps"])
    forecast = predict(config, landscape=reward.told)
    rho = reward.told.signal(sigma).correlation or 0.0
    model = bernoulli_rewards(start, prompts=prompts, signal_std=signal)
    predicted = {
        "progress_gaussian": forecast.get(Quantity.PROGRESS_PER_STEP).law.mean,
        "progress_bernoulli": config.step_size * zscore_overlap(model, config.population),
        "reward_change": forecast.get(Quantity.REWARD, config.steps).law.mean + reward.told.gap,
    }
    needed = {}
    for steps in (1, config.steps):
        count = 1 / (setting["relative_stderr"] ** 2 * rho**2 * config.population * steps)
        needed[steps] = int(np.clip(count, setting["fewest_replicas"], setting["most_replicas"]))
    seed = [setting["seed"], round(1000 * start), prompts, round(1000 * signal)]
    one, many = (
        simulate(
            ESConfig(**run, population=config.population, steps=steps),
            land,
            replicas=replicas,
            seed=int(np.random.SeedSequence([*seed, steps]).generate_state(1)[0]),
            reward=reward,
        )
        for steps, replicas in needed.items()
    )
    samples = {
        "progress_gaussian": one.projection[:, 0],
        "progress_bernoulli": one.projection[:, 0],
        "reward_change": many.reward[:, -1] - many.start_reward,
    }
    row = {"start_accuracy": start, "prompts": prompts, "signal": signal, "sigma": sigma, "reliability": rho**2}
    for name, values in samples.items():
        mean, stderr = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(values.size)
        ratio = predicted[name] / mean if mean else math.inf  # no run moved: all members of all steps equal
        row |= {f"{name}_predicted": predicted[name], f"{name}_simulated": mean}
        row |= {f"{name}_error": ratio - 1, f"{name}_stderr": abs(ratio * stderr / mean) if mean else math.inf}
    return row


def draw(rows: list[dict[str, str]], setting: dict[str, Any]) -> None:
    """Draw the heat maps: rows are starts, columns results."""
    starts, prompts, signals = (setting[name] for name in ("start_accuracy", "prompts", "signal"))
    figure, axes = plt.subplots(len(starts), len(MAPS), figsize=(11.0, 3.3 * len(starts)), layout="constrained")
    for start, line in zip(starts, axes, strict=True):
        for (name, title), ax in zip(MAPS.items(), line, strict=True):
            error, noise = np.empty((2, len(prompts), len(signals)))
            for row in rows:
                if float(row["start_accuracy"]) == start:
                    at = prompts.index(int(row["prompts"])), signals.index(float(row["signal"]))
                    error[at], noise[at] = float(row[f"{name}_error"]), float(row[f"{name}_stderr"])
            image = ax.imshow(
                np.clip(100 * error, -100, 100), cmap="RdBu_r", vmin=-100, vmax=100, origin="lower", aspect="auto"
            )
            for (i, j), value in np.ndenumerate(error):
                percent = f"{100 * value:+.0f}" if abs(value) < 9.995 else ">999" if value > 0 else "<-999"
                if math.isfinite(value) and abs(value) * (1 + value) < 2 * noise[i, j]:
                    percent = f"({percent})"
                ax.text(j, i, percent, ha="center", va="center", color="w" if abs(value) > 0.6 else "k", fontsize=8)
            ax.set_xticks(range(len(signals)), [f"{s:g}" for s in signals])
            ax.set_yticks(range(len(prompts)), [str(b) for b in prompts])
            ax.set_title(f"start accuracy {start:g}: {title.format(steps=setting['steps'])}", fontsize=9)
            ax.set_xlabel("sigma ||g|| (accuracy)")
            ax.set_ylabel("prompts B")
    bar = figure.colorbar(image, ax=axes, shrink=0.7, extend="both")
    bar.set_label("predicted over simulated, minus 1 (%); in brackets: within two standard errors of 0")
    with plt.rc_context({"svg.hashsalt": "estheory", "svg.fonttype": "none"}):
        figure.savefig(FIGURE, metadata={"Date": None}, facecolor="white")


def main() -> None:
    """Simulate every cell (unless the figure alone is wanted), write map.csv and draw it."""
    setting = tomllib.loads((HERE / "config.toml").read_text(encoding="utf-8"))
    table = HERE / "map.csv"
    if "--figure-only" not in sys.argv:
        cells = [
            cell(setting, start, prompts, signal)
            for start in setting["start_accuracy"]
            for prompts in setting["prompts"]
            for signal in setting["signal"]
        ]
        with table.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(cells[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in c.items()} for c in cells)
    with table.open(encoding="utf-8", newline="") as file:
        draw(list(csv.DictReader(file)), setting)


main()
