"""Noise whose coordinates are not independent: one seed for many tensors, and low-rank matrices."""

from __future__ import annotations

from typing import Any

from estheory.derivations.algebra import Expr, sp
from estheory.derivations.derivation import Derivation, Evaluator, Values, agrees, define, follows
from estheory.derivations.notation import VARIANCE, given, named
from estheory.theory import effective_dimension as theory
from estheory.theory.walk import OURS

_COUNT: dict[str, Any] = {"typical": (1, 6), "extreme": (1, 40)}
_SIZE: dict[str, Any] = {"typical": (2, 9), "extreme": (1, 10**9)}
M1 = given("m_1", "m_1", "first_tensors", "tensors of the first element count", **_COUNT)
M2 = given("m_2", "m_2", "second_tensors", "tensors of the second element count", **_COUNT)
N1 = given("n_1", "n_1", "first_size", "the first element count", **_SIZE)
N2 = given("n_2", "n_2", "second_size", "the second element count", **_SIZE)
TRACE = named("tr C", r"\operatorname{tr}C", "trace of the covariance of the noise")
SQUARE_TRACE = named("tr C²", r"\operatorname{tr}C^2", "trace of its square")
MEAN = named("E‖Δ‖²", r"\mathbb{E}\lVert\Delta\rVert^2", "mean square of the displacement", "weight^2")
SPREAD = named("Var‖Δ‖²", r"\operatorname{Var}\lVert\Delta\rVert^2", "its variance", "weight^4")
EFFECTIVE = named("d_eff", r"d_{\mathrm{eff}}", "effective number of independent coordinates")
m1, m2, n1, n2, v = M1.symbol, M2.symbol, N1.symbol, N2.symbol, VARIANCE.symbol
i, j = (sp.Symbol(name, integer=True, positive=True) for name in "ij")


def _pairs(count: Expr) -> Expr:
    return sp.Sum(sp.Sum(1, (i, 1, count)), (j, 1, count))


shared_seed_dimension = Derivation(
    name="shared-seed-dimension",
    title="Effective dimension when tensors of equal element count share their noise",
    assumptions=(
        "the generator is re-seeded for every tensor, so m tensors of n elements hold m copies of n normals",
        "written for two element counts; more add terms of the same form",
    ),
    label="exact",
    source=OURS,
    symbols=(M1, N1, M2, N2, VARIANCE, TRACE, SQUARE_TRACE, MEAN, SPREAD, EFFECTIVE),
    steps=(
        define(TRACE.symbol, m1 * n1 + m2 * n2, "Every coordinate has variance 1."),
        define(
            SQUARE_TRACE.symbol,
            n1 * _pairs(m1) + n2 * _pairs(m2),
            "The squares of all entries of C: 1 for each pair of copies of the same normal.",
        ),
        follows(SQUARE_TRACE.symbol, m1**2 * n1 + m2**2 * n2, "m^2 pairs for each of n normals."),
        define(MEAN.symbol, v * TRACE.symbol, "Mean of the squared norm of a Gaussian of covariance v C."),
        define(SPREAD.symbol, 2 * v**2 * SQUARE_TRACE.symbol, "Its variance (Wick)."),
        define(
            EFFECTIVE.symbol,
            2 * MEAN.symbol**2 / SPREAD.symbol,
            "The number of independent coordinates with that relative variance, 2/d (norm-square-variance).",
        ),
        follows(EFFECTIVE.symbol, (m1 * n1 + m2 * n2) ** 2 / (m1**2 * n1 + m2**2 * n2), "v drops out."),
    ),
    evaluator=Evaluator(
        name="estheory.theory.effective_dimension.shared_seed_dimension",
        call=lambda v: theory.shared_seed_dimension(
            [(int(v["first_size"]),)] * int(v["first_tensors"]) + [(int(v["second_size"]),)] * int(v["second_tensors"])
        ),
    ),
    conditions=(sp.Ne(n1, n2),),
)

ROWS = given("m", "m", "rows", "rows of the matrix", typical=(1, 8), extreme=(1, 10**6))
COLUMNS = given("n", "n", "columns", "columns of the matrix", typical=(1, 8), extreme=(1, 10**6))
RANK = given("r", "r", "rank", "rank of the noise", typical=(1, 3), extreme=(1, 10**4))
TRACE_MEAN = named("E tr WV", r"\mathbb{E}\operatorname{tr}WV", "mean of tr WV, W = A'A and V = B'B")
TRACE_SQUARE = named("E (tr WV)²", r"\mathbb{E}(\operatorname{tr}WV)^2", "its mean square")
NOISE_SPREAD = named(
    "Var‖E‖²", r"\operatorname{Var}\lVert E\rVert^2", "variance of the squared norm of one noise matrix"
)
m, n, rank = ROWS.symbol, COLUMNS.symbol, RANK.symbol
a, b, c, e = (sp.Symbol(name, integer=True, positive=True) for name in "abce")


def _moment(df: Expr) -> Expr:
    """Return E[W_ab W_ce] of a Wishart matrix of identity scale."""
    delta = sp.KroneckerDelta
    return df**2 * delta(a, b) * delta(c, e) + df * (delta(a, c) * delta(b, e) + delta(a, e) * delta(b, c))


def _dimension(values: Values) -> float:
    rows, columns, rank = (int(values[name]) for name in ("rows", "columns", "rank"))
    dim = theory.low_rank_dimension([(rows, columns)], rank, 1.0, 1.0)  # one member of weight 1
    return 2 * (rows * columns) ** 2 / dim


low_rank_spread = Derivation(
    name="low-rank-spread",
    title="Variance of the squared norm of low-rank noise",
    assumptions=("E = A B'/sqrt(r) with independent standard normal A (m x r) and B (n x r)",),
    label="exact",
    source=OURS,
    symbols=(ROWS, COLUMNS, RANK, TRACE_MEAN, TRACE_SQUARE, NOISE_SPREAD),
    steps=(
        define(
            TRACE_SQUARE.symbol,
            sp.Sum(_moment(m) * _moment(n), (a, 1, rank), (b, 1, rank), (c, 1, rank), (e, 1, rank)),
            "||E||^2 = tr(WV)/r with Wishart W and V; E[W_ab W_ce] E[V_ab V_ce] added up over a, b, c, e = 1..r.",
        ),
        agrees(
            TRACE_SQUARE.symbol,
            (m * n * rank) ** 2 + 2 * rank * m * n * (m + n) + 2 * rank * (rank + 1) * m * n,
            "Contractions of Kronecker deltas: r^2, r, and 2 r^2 + 2 r for the product of the symmetric terms.",
        ),
        define(TRACE_MEAN.symbol, sp.Sum(m * n, (a, 1, rank)), "E W = m I and E V = n I."),
        define(
            NOISE_SPREAD.symbol,
            (TRACE_SQUARE.symbol - TRACE_MEAN.symbol**2) / rank**2,
            "Mean square minus squared mean.",
        ),
        agrees(
            NOISE_SPREAD.symbol,
            2 * m * n * (m + n + rank + 1) / rank,
            "The 2 m n of independent entries is reached as the rank grows.",
        ),
    ),
    evaluator=Evaluator(name="estheory.theory.effective_dimension.low_rank_dimension", call=_dimension),
)

DERIVATIONS = (shared_seed_dimension, low_rank_spread)
