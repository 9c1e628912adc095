"""Where theory holds for 0/1 rewards of B prompts: python experiments/where-theory-holds/make.py [--figure-only]."""

import csv
import math
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from estheory.landscape import Landscape
from estheory.quantities import Quantity
from estheory.reporting.page.svg import new_figure, standing, to_svg
from estheory.rules import ESConfig
from estheory.simulation.engine import simulate
from estheory.simulation.named_rewards import sigmoid_reward
from estheory.theory.predictions import predict
from estheory.theory.reward_model import bernoulli_rewards, zscore_overlap

HERE = Path(__file__).parent
FIGURE = HERE.parents[1] / "docs" / "validation" / "where-theory-holds.svg"
MAPS = {
    "progress_gaussian": "progress, Gaussian formula",
    "progress_bernoulli": "progress, Bernoulli form",
    "reward_change": "change of E R, {steps} steps",
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
    """Draw the heat maps: rows are results, columns starts."""
    starts, prompts, signals = (setting[name] for name in ("start_accuracy", "prompts", "signal"))
    with new_figure(190 * len(MAPS) + 60, {"axes.grid": False, "font.size": 8.5, "axes.titlesize": 8.5}) as figure:
        axes = figure.subplots(len(MAPS), len(starts), sharex=True, sharey=True)
        for (name, title), line in zip(MAPS.items(), axes, strict=True):
            for start, ax in zip(starts, line, strict=True):
                error, noise = np.empty((2, len(prompts), len(signals)))
                for row in rows:
                    if float(row["start_accuracy"]) == start:
                        at = prompts.index(int(row["prompts"])), signals.index(float(row["signal"]))
                        error[at], noise[at] = float(row[f"{name}_error"]), float(row[f"{name}_stderr"])
                shown = np.clip(100 * error, -100, 100)
                image = ax.pcolormesh(shown, cmap="RdBu_r", vmin=-100, vmax=100)
                for (i, j), value in np.ndenumerate(error):
                    percent = f"{100 * value:+.0f}" if abs(value) < 9.995 else ">999" if value > 0 else "<-999"
                    if math.isfinite(value) and abs(value) * (1 + value) < 2 * noise[i, j]:
                        percent = f"({percent})"
                    colour = "#fefefe" if abs(value) > 0.6 else "#000000"
                    ax.text(j + 0.5, i + 0.5, percent, ha="center", va="center", color=colour, fontsize=6.5)
                ax.set_xticks(np.arange(len(signals)) + 0.5, [f"{s:g}" for s in signals])
                ax.set_yticks(np.arange(len(prompts)) + 0.5, [str(b) for b in prompts])
                ax.tick_params(length=0, labelsize=7.5)
                ax.set_title(f"{title.format(steps=setting['steps'])},\nstart accuracy {start:g}")
        for ax in axes[-1]:
            ax.set_xlabel("σ‖g‖ (accuracy)")
        for line in axes:
            line[0].set_ylabel("prompts B")
        bar = figure.colorbar(image, ax=axes, location="bottom", shrink=0.8, aspect=30, extend="both")
        bar.set_label("predicted over simulated, minus 1 (%)\nin brackets: within two standard errors of 0")
        words = "Relative error of three predictions over the width of the perturbation and the number of prompts"
        FIGURE.write_text(standing(to_svg(figure, "Where theory holds", words)) + "\n", encoding="utf-8")


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
