"""What a quantity is, how it is predicted and where the prediction fails: ``estheory predict --explain``."""

from __future__ import annotations

from dataclasses import dataclass

from estheory.quantities import Prediction, Quantity


@dataclass(frozen=True)
class QuantityNotes:
    """What a quantity rests on.

    Attributes
    ----------
    formula, fails
        The formula, and where it fails.
    """

    formula: str
    fails: str


EXPLANATIONS: dict[Quantity, QuantityNotes] = {
    Quantity.STORAGE_CHANGE: QuantityNotes(
        "||round(theta_0) - theta_0||, measured: what storing the base in the checkpoint's format moved by itself",
        "never: measured",
    ),
    Quantity.REWARD_RELIABILITY: QuantityNotes(
        "v/S^2 = 1 - MS_residual / MS_members over the rewards of members on prompts (estheory pilot)",
        "a fixed set of prompts, whose own effects are signal for that set",
    ),
    Quantity.ODD_VARIANCE: QuantityNotes(
        "variance of half differences of mirrored members, less its noise; sigma^2 ||g||^2 if linear (estheory pilot)",
        "members that are not mirrored: then only an upper bound is known",
    ),
    Quantity.EVEN_VARIANCE: QuantityNotes(
        "variance of half sums of mirrored members, less noise; 1/2 sigma^4 tr Lam^2 on a quadratic (estheory pilot)",
        "members that are not mirrored",
    ),
    Quantity.SMOOTHING_GAP: QuantityNotes(
        "R(theta) - mean reward of members, 1/2 sigma^2 tr Lam on a quadratic (estheory pilot)",
        "a sigma at which the reward is no quadratic: the gap then leaves sigma^2",
    ),
    Quantity.DIFFUSION_COST_PER_STEP: QuantityNotes(
        "(alpha^2/(N sigma^2)) gap = (alpha^2/2N) tr Lam for z-scores (estheory pilot)",
        "noise that is not isotropic, and updates much longer than a member's perturbation",
    ),
    Quantity.NET_GAIN_PER_STEP: QuantityNotes(
        "(alpha/sigma) c(N) v_lin/S - (alpha^2/(N sigma^2)) gap (estheory pilot)",
        "an odd part that is not linear, and curvature along the gradient",
    ),
    Quantity.BEST_NET_GAIN: QuantityNotes(
        "N c^2 v_lin^2 / (4 S^2 gap), at alpha* = N sigma c v_lin / (2 S gap) (estheory pilot)",
        "a best step beyond what the members have measured",
    ),
    Quantity.CENTRE_REWARD: QuantityNotes(
        "the level and the net rate of the last updates, carried on (estheory forecast)",
        "a run whose rate changes faster than it has so far",
    ),
    Quantity.MEAN_MEMBER_REWARD: QuantityNotes(
        "as centre_reward, of the members' mean (estheory forecast)",
        "a gap to the centre that changes",
    ),
    Quantity.DISPLACEMENT_NORM: QuantityNotes(
        "||Delta_T|| = sqrt(v) chi_d, v = alpha^2 T / N for z-scores; otherwise see docs/concepts/walk.md",
        "where much of the squared norm is signal (see signal_share_bound), and in low precision",
    ),
    Quantity.STEP_NORM: QuantityNotes(
        "E||Delta_1||^2 = (alpha^2/N)(d + (N-2) rho^2)", "rewards far from Gaussian with a large reliability"
    ),
    Quantity.MEMBER_PERTURBATION_NORM: QuantityNotes("sigma chi_d", "noise rounded to low precision"),
    Quantity.COORDINATE_STD: QuantityNotes("sqrt(v), v = alpha^2 T / N", "coordinates the reward depends on"),
    Quantity.EFFECTIVE_DIMENSION_RATIO: QuantityNotes(
        "chi^2_n / n, 1 +- sqrt(2/n) for a tensor of n entries", "tensors that carry signal, and rounding"
    ),
    Quantity.CHECKPOINT_COSINE: QuantityNotes(
        "sqrt(T1/T2), spread (1 - T1/T2)/sqrt(d)", "a coherent drift, which raises it"
    ),
    Quantity.INDEPENDENT_COSINE: QuantityNotes(
        "N(0, 1/d); of two runs that learn the same their cosines with the gradient at the start multiplied, "
        "b / sqrt(v d + p_T^2) each",
        "runs that share seeds",
    ),
    Quantity.DISPLACEMENT_COSINE: QuantityNotes(
        "measured: <Delta_a, Delta_b> / (||Delta_a|| ||Delta_b||)", "never: measured"
    ),
    Quantity.GRPO_DISPLACEMENT_NORM: QuantityNotes(
        "||Delta||^2 = d k(T) sum_t lr_t^2, k of AdamW on dense Gaussian gradient noise; with gradients probed before "
        "the run (run grpo --gradient-probe) d [sum_st w_s w_t C(s, t) + k sum_t lr_t^2 (D(t) - C(t, t))]",
        "sparse gradients (less), bf16 weights without a master copy; unprobed a persistent signal (2.4 times it)",
    ),
    Quantity.NORM_RATIO: QuantityNotes("displacement_norm / grpo_displacement_norm", "where either fails"),
    Quantity.MATCHING_POPULATION: QuantityNotes(
        "N = alpha^2 d T / ||Delta_GRPO||^2, over 1 - q where the signal's motion has the share q of that square",
        "where the GRPO norm fails; q above a tenth and 0/1 rewards that tie have no row",
    ),
    Quantity.ES_GRPO_COSINE: QuantityNotes(
        "cosines with the gradient at the start multiplied: ES's by its ledger, GRPO's by minibatches before the run "
        "(estheory validate RUN RUN)",
        "a gradient of the smoothed reward that is not the policy's",
    ),
    Quantity.COHERENT_DISPLACEMENT: QuantityNotes(
        "p_T, p_T^2 = sum_st a_s a_t cos(g_s, g_t): a_t = earned_t / ||g_t|| by the ledger (estheory forecast), before "
        "a run a_t = alpha c(N) rho at the measured gradient, which the walk turns (predict --pilot, --probes)",
        "curvatures that differ much, rewards that rise where the gradient is that of the start, and members that are "
        "not mirrored: then it is an upper bound",
    ),
    Quantity.ES_GRPO_COSINE_BOUND: QuantityNotes(
        "|cos| <= c(N) sqrt(N T / d), beside noise of 1/sqrt(d)", "shared-seed noise, whose bound is wider"
    ),
    Quantity.PRECISION_GAIN: QuantityNotes(
        "E_w gain(alpha / (sqrt(N) u(w))), gain(x) = sum_k 2(2k-1) Q((k-1/2)/x) / x^2",
        "with perturb-restore pairs and anchors, which are emulated; many steps on weights near a binade's edge",
    ),
    Quantity.PRECISION_SIGNAL: QuantityNotes(
        "E_w kept(alpha / (sqrt(N) u(w))), kept(x) = (2/x) sum_k phi((k-1/2)/x)",
        "a gradient that prefers large or small weights",
    ),
    Quantity.GRADIENT_COSINE: QuantityNotes(
        "of one step A / sqrt(A^2 + chi^2_(d-1)), A = rho chi_(N-1) + sqrt(1-rho^2) Z; of a run b / sqrt(v d + p_T^2), "
        "b = sum_t a_t cos(g_0, g_t), by its ledger (estheory forecast) or as measured before it (predict --pilot)",
        "rewards far from Gaussian; of a run, curvatures that differ much",
    ),
    Quantity.PROGRESS_PER_STEP: QuantityNotes(
        "alpha rho c(N); of 0/1 rewards (--success, --prompts) exact; with a spectrum sum_k g_k E Delta_k / ||g||",
        "rewards far from Gaussian: up to 25 % more or less; --success and --prompts take 0/1 rewards in",
    ),
    Quantity.REWARD_GAIN_PER_STEP: QuantityNotes(
        "||g|| times progress; with a spectrum minus 1/2 sum_k lam_k E Delta_k^2", "beyond the quadratic neighbourhood"
    ),
    Quantity.TIE_PROBABILITY: QuantityNotes(
        "sum_k P(k of B prompts right)^N", "prompts of different difficulty (fewer ties), sampled batches per member"
    ),
    Quantity.COHERENT_DISPLACEMENT_BOUND: QuantityNotes("alpha c(N) T", "shared-seed noise: times sqrt(lambda_max(C))"),
    Quantity.SIGNAL_SHARE_BOUND: QuantityNotes("c(N)^2 N T / d", "not binding when it reaches 1"),
    Quantity.CRITICAL_POPULATION: QuantityNotes(
        "N_crit = A S^2 / (sigma^2 g'Lam g) + X/4 + 6 <x>_1 - 12 <x>_2, A = tr Lam + quadratic-share term",
        "quadratic shares x_k above 0.5",
    ),
    Quantity.OPTIMAL_ALPHA: QuantityNotes(
        "N c sigma (||g||^2/S) / (A + (N-2) sigma^2 g'Lam g / S^2)", "it is greedy: best for one step only"
    ),
    Quantity.REWARD: QuantityNotes(
        "-1/2 sum_k lam_k q_k(t), q_k by the mean-field recursion", "few directions, small N: error O(1/N)"
    ),
    Quantity.REWARD_PEAK_STEP: QuantityNotes(
        "argmax of the mean-field reward", "single runs scatter about the mean curve"
    ),
    Quantity.REWARD_PEAK_STEP_LOWER_BOUND: QuantityNotes(
        "argmax of the mean-field reward with all of the gradient in one direction of its own curvature",
        "rewards that saturate",
    ),
    Quantity.REWARD_CHANGE: QuantityNotes(
        "rise along the gradient at its own curvature, minus 1/2 v tr Lam of the rest",
        "beyond the quadratic neighbourhood: rewards that saturate",
    ),
    Quantity.REWARD_RELIABILITY: QuantityNotes(
        "v/S^2: mean covariance of two prompts' rewards over the variance of their mean, between members",
        "as --reliability: curvature common to all prompts counts here, and no step moves by it",
    ),
    Quantity.RELIABILITY: QuantityNotes(
        "rho^2 = sigma^2 ||g||^2 / S^2, what --reliability takes",
        "from members' rewards alone: their reward_reliability counts curvature, too, and overstates progress",
    ),
    Quantity.MEMBER_REWARD_STD: QuantityNotes("S of the probe's members", "later steps: S changes along the run"),
    Quantity.STATIONARY_REWARD_GAP: QuantityNotes(
        "1/2 sum_k lam_k q_k, solved jointly with S", "runs too short to settle; flat directions never do"
    ),
    Quantity.INTERPOLATION_GAIN: QuantityNotes(
        "D' Lam D / 8 at the middle: [(v_1 + v_2) tr Lam + lam (b_1 - b_2)^2] / 8 of walks, pulled back by learning, "
        "and coherent parts",
        "landscapes that are not concave between the ends, curvatures that differ much",
    ),
    Quantity.DIRECTION_GAIN: QuantityNotes(
        "t g.u - t^2 u' Lam u / 2 from the base; -t^2 tr Lam / (2 d) along a random direction",
        "beyond the quadratic neighbourhood, as along a gradient method's direction past its end",
    ),
    Quantity.LOG_PROBABILITY: QuantityNotes("measured: teacher-forced, mean over prompts", "never: measured"),
    Quantity.KL_DRIFT: QuantityNotes(
        "1/2 v sum_k f_k chi^2_1: mean 1/2 v tr F; of a run that learns 1/2 v tr F + 1/2 p_T^2 f, f = g^'F g^",
        "long walks (KL grows slower or faster than v), and on tiny-lm once the reward has risen: an upper bound then",
    ),
    Quantity.OFF_TASK_REWARD_CHANGE: QuantityNotes(
        "mean -1/2 v tr Lam_off, std sqrt(v ||g_off||^2 + 1/2 v^2 tr Lam_off^2)", "beyond the quadratic neighbourhood"
    ),
    Quantity.DISPLACEMENT_EXPONENT: QuantityNotes(
        "1 for a walk: the slope of log ||Delta_T||^2 in log T", "it does not tell ES from AdamW: both are near 1"
    ),
    Quantity.UNCHANGED_FRACTION: QuantityNotes("measured: share of entries equal to the base's", "never: measured"),
    Quantity.DISPLACEMENT_KURTOSIS: QuantityNotes("measured; 3 for Gaussian changes", "never: measured"),
    Quantity.LARGEST_CHANGE: QuantityNotes("measured: largest |Delta_k|", "never: measured"),
    Quantity.ACCURACY: QuantityNotes("measured: mean score of greedy answers", "never: measured"),
    Quantity.ACCURACY_CHANGE: QuantityNotes("measured: accuracy after minus before", "never: measured"),
}


def explain(quantity: Quantity, predictions: list[Prediction]) -> str:
    """Return definition, formula, where it fails, and the assumptions of the predictions at hand.

    `predictions`: of that quantity; those of one label, source and assumptions are told once.
    """
    entry = EXPLANATIONS[quantity]
    lines = [
        f"{quantity} ({quantity.unit}, {quantity.topic})",
        f"  definition: {quantity.definition}",
        f"  formula:    {entry.formula}",
        f"  fails:      {entry.fails}",
    ]
    for label, source, assumptions in dict.fromkeys((p.label, p.source, p.assumptions) for p in predictions):
        lines.append(f"  label:      {label}, {source}")
        lines.extend(f"  assumes:    {assumption}" for assumption in assumptions)
    return "\n".join(lines) + "\n"
