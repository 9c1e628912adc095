"""Streamed norms and cosines against exact sums, and the law of a walk."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from estheory.errors import ConfigError, DataError
from estheory.measurement.displacement import measure_displacements

SHAPES = {
    "embed": (37, 8),
    "empty": (0, 4),
    "layer.0": (5, 3, 7),
    "scale": (11,),
}  # as safetensors orders them


@pytest.fixture
def saved(tmp_path):
    """A base and three checkpoints of mixed small and large displacements, in float32."""
    generator = torch.Generator().manual_seed(0)
    base = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    tensors, paths = [base], []
    for scale in (1e-6, 1e-2, 3.0):
        tensors.append({n: t + scale * torch.randn(t.shape, generator=generator) for n, t in base.items()})
    for number, content in enumerate(tensors):
        paths.append(tmp_path / f"step_{number:06d}.safetensors")
        save_file(content, paths[-1])
    return tensors, paths


def exact_inner(a, b, base) -> float:
    """Inner product of two displacements in rational arithmetic, rounded once."""
    rows = zip(*(t.flatten().tolist() for t in (a, b, base)), strict=True)
    return float(sum((Fraction(x) - Fraction(z)) * (Fraction(y) - Fraction(z)) for x, y, z in rows))


@pytest.mark.parametrize("chunk", [1, 7, 1 << 18])
def test_norms_and_cosines_are_exact(saved, chunk):
    (base, *others), paths = saved
    result = measure_displacements(paths[0], paths[1:], chunk=chunk)
    for row, name in enumerate(SHAPES):
        for i, a in enumerate(others):
            for j, b in enumerate(others):
                exact = exact_inner(a[name], b[name], base[name])
                scale = math.sqrt(exact_inner(a[name], a[name], base[name]) * exact_inner(b[name], b[name], base[name]))
                assert abs(result.gram[row, i, j] - exact) <= 1e-12 * scale
    whole = np.array([[sum(exact_inner(a[n], b[n], base[n]) for n in SHAPES) for a in others] for b in others])
    np.testing.assert_allclose(result.norms, np.sqrt(np.diag(whole)), rtol=1e-12)
    norms = np.sqrt(np.diag(whole))
    np.testing.assert_allclose(result.cosines, whole / np.outer(norms, norms), rtol=1e-9, atol=1e-12)


def test_float32_subtraction_would_miss_the_stated_accuracy(saved):
    """Why differences are taken in float64: the reference at 1e-9 can fail."""
    (base, one, *_), paths = saved
    exact = measure_displacements(paths[0], paths[1:2]).norms[0]
    naive = math.sqrt(sum(float((one[n] * 0.999 - base[n] * 0.999).double().square().sum()) for n in SHAPES)) / 0.999
    assert abs(naive / exact - 1) > 1e-9


def test_measurements_carry_the_contract_s_places(saved):
    _, paths = saved
    rows = measure_displacements(paths[0], {"es": paths[2], "grpo": paths[3]}).measurements()
    places = [row.where for row in rows]
    assert places == [
        *("total:es", *(f"tensor:es:{name}" for name in SHAPES)),
        *("total:grpo", *(f"tensor:grpo:{name}" for name in SHAPES)),
        "es|grpo",
    ]
    assert [row.step for row in rows] == [2] * 5 + [3] * 5 + [None]
    assert {row.quantity for row in rows[:-1]} == {"displacement_norm"}
    assert rows[-1].quantity == "displacement_cosine"
    assert rows[0].value == pytest.approx(math.sqrt(sum(row.value**2 for row in rows[1:5])), rel=1e-12)
    assert all(row.stderr == 0 for row in rows)


def test_paths_are_labels_by_default_and_no_motion_has_no_cosine(saved):
    _, paths = saved
    rows = measure_displacements(paths[0], [paths[0], paths[1]]).measurements()
    assert rows[0].where == f"total:{paths[0]}"
    assert rows[0].value == 0.0
    assert math.isnan(rows[-1].value)


def test_ratios_of_a_walk_are_one_and_of_a_wrong_alpha_are_not(tmp_path):
    """100 tensors of 400 entries: mean ratio 1 +- sqrt(2/40000), each 1 +- sqrt(2/400)."""
    rng = np.random.default_rng(0)
    variance = 0.01**2 * 50 / 8
    base = {f"t{k}": torch.from_numpy(rng.normal(size=400)) for k in range(100)}
    moved = {n: t + math.sqrt(variance) * torch.from_numpy(rng.normal(size=400)) for n, t in base.items()}
    save_file(base, tmp_path / "a.safetensors")
    save_file(moved, tmp_path / "b.safetensors")
    result = measure_displacements(tmp_path / "a.safetensors", [tmp_path / "b.safetensors"])
    ratios = result.effective_dimension_ratios([variance])
    assert ratios.shape == (1, 100)
    assert abs(ratios.mean() - 1) < 5 * math.sqrt(2 / 40000)
    assert abs(result.effective_dimension_ratios([variance * 1.05])[0].mean() - 1) > 5 * math.sqrt(2 / 40000)
    # the spread too: its standard error over 100 tensors is 1/sqrt(200) of itself
    assert abs(ratios.std(ddof=1) / math.sqrt(2 / 400) - 1) < 5 / math.sqrt(200)
    for bad in ([], [0.0], [1.0, 1.0], [math.nan]):
        with pytest.raises(ConfigError, match="variance"):
            result.effective_dimension_ratios(bad)


def test_only_the_named_tensors_are_compared(saved):
    _, paths = saved
    whole = measure_displacements(paths[0], paths[2:])
    part = measure_displacements(paths[0], paths[2:], names=["scale"])
    assert part.tensors == {"scale": 11}
    np.testing.assert_array_equal(part.tensor_norms[:, 0], whole.tensor_norms[:, list(SHAPES).index("scale")])


def test_bad_input_is_refused(saved, tmp_path):
    (base, *_), paths = saved
    for checkpoints in ([], [paths[1], paths[1]]):
        with pytest.raises(ConfigError, match="missing or given twice"):
            measure_displacements(paths[0], checkpoints)
    broken = {name: tensor.clone() for name, tensor in base.items()}
    broken["layer.0"][2, 1, 3] = float("inf")
    save_file(broken, tmp_path / "broken.safetensors")
    with pytest.raises(DataError, match=r"tensor layer\.0 .* has 1 NaN"):
        measure_displacements(paths[0], [tmp_path / "broken.safetensors"])
