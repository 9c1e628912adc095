"""Configurations drawn from the whole option space of `predict`, and the same ones as the engine simulates them."""

from dataclasses import dataclass

import numpy as np

from estheory import ESConfig, Landscape, linear_signal
from estheory.errors import EstheoryError
from estheory.theory.curved.predictions import OffTask
from estheory.theory.grpo import GRPOConfig
from estheory.theory.predictions import predict
from estheory.theory.prompt_batch import PromptBatch
from estheory.theory.rounding.precision import rounding_effects
from estheory.theory.rounding.weights import WeightHistogram
from tests.audit.engine import Run, stored

ROUNDED = 0.05
"""Share of the configurations that store their weights in a narrow format."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One configuration: what is simulated, and what the package says of it."""

    run: Run
    forecast: object
    given: dict
    """What `predict` was given besides the configuration and its checkpoints."""
    text: str
    drift: np.ndarray
    """Diagonal of another task's curvature, on flat coordinates."""
    drift_gradient: np.ndarray
    flat: np.ndarray
    """Which coordinates the reward does not depend on."""
    grpo: dict


def draw_rounded(rng, cost):
    """A configuration of weights in a narrow format, which no signal moves."""
    pick = lambda *options: options[int(rng.integers(len(options)))]  # noqa: E731
    dim, population, steps = 300, int(pick(3, 4, 8, 30)), int(pick(1, 2, 5, 20))
    while steps > 1 and steps * population * dim > cost:
        steps //= 2
    path = pick("accumulated", "sequential")
    names = {
        "dim": dim,
        "sigma": 1e-3,
        "alpha": float(10 ** rng.uniform(-5, -3)),
        "population": population,
        "shaping": pick("zscore", "centered-rank") if path == "accumulated" else "zscore",
        "dtype": pick("bfloat16", "bfloat16", "float16"),
        "update_path": path,
    }
    std, looks = float(pick(0.005, 0.02, 0.1)), tuple(sorted({steps, max(1, steps // 2)}))
    config = ESConfig(**names, steps=steps)
    weights = stored(std * rng.standard_normal(dim), names["dtype"])
    known = WeightHistogram(np.abs(weights), np.full(dim, 1 / dim))
    given = {"rounding": rounding_effects(config, known, {1, *looks})}
    everywhere, nowhere = np.ones(dim, dtype=bool), np.zeros(dim)
    return Drawn(
        run=Run(**names, looks=looks, weights=weights),
        forecast=predict(config, checkpoints=looks, **given),
        given=given,
        text=f"{names}, weights of {std}, steps={looks}",
        drift=np.stack([nowhere, nowhere]),
        drift_gradient=nowhere,
        flat=everywhere,
        grpo={},
    )


def draw(rng, cost):
    """A configuration that ``cost`` random numbers per replica simulate at most; a string where it is refused."""
    if rng.spawn(1)[0].random() < ROUNDED:  # a stream of its own: what the others draw stays what it was
        return draw_rounded(rng, cost)
    pick = lambda *options: options[int(rng.integers(len(options)))]  # noqa: E731
    shaping = pick("zscore", "zscore", "zscore", "centered-rank", "raw", "two-point")
    antithetic = shaping == "zscore" and rng.random() < 0.3
    population = int(pick(2, 3, 4, 5, 6, 8, 10, 16, 30, 64, 128))
    if antithetic:
        population = max(4, 2 * (population // 2))
    reward = pick("noise", "linear", "quadratic", "quadratic", "success")
    if reward == "success" and (antithetic or shaping == "two-point"):
        reward = "linear"
    noise = pick("gaussian", "gaussian", "gaussian", "gaussian", "low-rank", "shared-seed")
    shapes = ()
    if noise != "gaussian":
        shapes = tuple(
            tuple(int(n) for n in rng.integers(2, 12, size=int(pick(1, 2)))) for _ in range(int(rng.integers(1, 5)))
        )
        dim = sum(int(np.prod(shape)) for shape in shapes)
        noise = f"low-rank:{int(pick(1, 2, 4))}" if noise == "low-rank" else noise
        if reward in ("linear", "quadratic"):  # factors shared with a concentrated gradient are outside the theory
            reward = "noise"
    else:
        dim = int(pick(1, 2, 3, 5, 10, 30, 100, 300, 1000))
    steps = int(pick(1, 1, 2, 5, 20, 60))
    while steps > 1 and steps * population * dim > cost:
        steps //= 2
    if population * dim > cost:
        dim = max(1, cost // population) if not shapes else dim
    sigma = float(10 ** rng.uniform(-2.5, -0.5))
    alpha = sigma * float(pick(0.25, 0.5, 1.0, 2.0))
    memory = pick("none", "none", "none", "momentum", "l2", "l1", "momentum-l2")
    options = {
        "momentum": float(pick(0.5, 0.9, 0.99)) if "momentum" in memory else 0.0,
        "anchor_l2": float(pick(0.01, 0.1, 0.5)) if "l2" in memory else 0.0,
        "anchor_l1": alpha / np.sqrt(population) * float(pick(0.05, 0.3, 1.0, 2.0)) if memory == "l1" else 0.0,
        "anchor_form": pick("before", "after"),
    }
    looks = tuple(sorted({steps, max(1, steps // 2), max(1, steps // 5)}))
    known, drawn, given = {}, {}, {}
    touched = 0
    if reward == "linear":
        touched = dim
        direction = rng.standard_normal(dim)
        gradient = direction / np.linalg.norm(direction) * float(10 ** rng.uniform(-0.5, 0.5))
        share = float(pick(0.01, 0.1, 0.5, 0.9, 0.99))
        spread = sigma * float(np.linalg.norm(gradient)) * np.sqrt(1 / share - 1)
        drawn = {"gradient": gradient, "reward_std": spread}
        known["reward"] = linear_signal(
            sigma=sigma, gradient_norm=float(np.linalg.norm(gradient)), reward_std=float(spread)
        )
        given = {"reliability": share}
    elif reward == "quadratic":
        rows = []
        for _ in range(int(rng.integers(1, 4))):
            rows.append(
                [float(10 ** rng.uniform(-1, 1.3)), int(pick(1, 1, 2, 5, 20, 100)), float(pick(0.0, 0.05, 0.3))]
            )
        rows[0][2] = rows[0][2] or 0.1
        touched = sum(row[1] for row in rows)
        dim = touched + int(pick(0, 1, 5, 40, 300))
        while steps > 1 and steps * population * dim > cost:
            steps //= 2
        looks = tuple(sorted({steps, max(1, steps // 2)}))
        spread = float(10 ** rng.uniform(-3, -0.5))
        if shaping in ("raw", "two-point"):
            sharp = max(row[0] * (1 + row[1] / population) for row in rows)
            alpha = float(rng.uniform(0.02, 0.3)) / sharp
        drawn = {
            "curvature": np.concatenate([np.full(m, lam) for lam, m, _ in rows] + [np.zeros(dim - touched)]),
            "optimum": np.concatenate([np.full(m, o) for _, m, o in rows] + [np.zeros(dim - touched)]),
            "reward_std": spread,
        }
        known["landscape"] = Landscape(
            dim=dim,
            eigenvalue=[row[0] for row in rows],
            multiplicity=[row[1] for row in rows],
            offset=[row[2] for row in rows],
            reward_std=spread,
        )
        given = {"rows": rows, "reward_std": spread}
    elif reward == "success":
        batch = PromptBatch(success=float(pick(0.02, 0.1, 0.3, 0.5, 0.9)), prompts=int(pick(1, 2, 8, 64)))
        norm = float(pick(0.0, 0.1, 0.5, 1.0)) * batch.reward_std / sigma
        touched = dim if norm else 0
        direction = rng.standard_normal(dim)
        gradient = direction / np.linalg.norm(direction) * norm if norm else None
        drawn = {"gradient": gradient, "success": batch.success, "prompts": batch.prompts}
        known["batch"] = batch
        known["reward"] = batch.signal(sigma=sigma, gradient_norm=norm or None)
        given = {"success": batch.success, "prompts": batch.prompts, "gradient_norm": norm}
    elif shaping in ("raw", "two-point"):
        spread = float(10 ** rng.uniform(-2, 0))
        drawn = {"reward_std": spread}
        # pure noise: a gradient that no test can see
        known["reward"] = linear_signal(sigma=sigma, gradient_norm=1e-9 * spread / sigma, reward_std=spread)
    flat = np.arange(dim) >= (touched if reward == "quadratic" else dim if touched else 0)
    drift, drift_gradient = np.zeros(dim), np.zeros(dim)
    free = int(flat.sum())
    if free >= 2 and noise == "gaussian" and not options["anchor_l1"] and rng.random() < 0.6:
        values = 1 / np.arange(1, free + 1) ** float(pick(0, 0.5, 1, 2))
        signs = np.where(rng.random(free) < pick(0.0, 0.0, 0.4), -1.0, 1.0)
        drift[flat] = values
        known["off_task"] = OffTask(
            fisher_trace=float(values.sum()),
            fisher_square_trace=float((values**2).sum()),
            trace=float((values * signs).sum()),
            square_trace=float((values**2).sum()),
            gradient_norm=(slope := float(pick(0.0, 1.0)) * alpha) or None,
        )
        drift_gradient[flat] = slope / np.sqrt(free)
        given |= {"signs": signs}
    grpo = {}
    if rng.random() < 0.3:
        grpo = {
            "lr": float(pick(1e-6, 1e-3)),
            "steps": int(pick(1, 3, 10, 30)),
            "schedule": pick("constant", "linear", "cosine"),
        }
        known["grpo"] = GRPOConfig(**grpo)
    names = {
        "dim": dim,
        "sigma": sigma,
        "alpha": alpha,
        "population": population,
        "shaping": shaping,
        "antithetic": antithetic,
        "noise": noise,
        **options,
    }
    text = ", ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in names.items())
    shown = {k: v for k, v in given.items() if k != "signs"}
    text = f"{text}, steps={looks}, reward={reward} {shown}" + (f", shapes={shapes}" if shapes else "")
    try:
        config = ESConfig(**names, steps=max(looks))
        forecast = predict(config, checkpoints=looks, shapes=shapes or None, **known)
    except EstheoryError as refused:
        return f"{refused}: {text}"
    signs = given.get("signs", 1.0)
    losses = drift.copy()
    losses[flat] = losses[flat] * signs
    run = Run(**names, shapes=shapes, reward=reward, looks=looks, **drawn)
    return Drawn(
        run=run,
        forecast=forecast,
        given=known,
        text=text,
        drift=np.stack([drift, losses]),
        drift_gradient=drift_gradient,
        flat=flat,
        grpo=grpo,
    )
