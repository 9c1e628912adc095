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
from estheory.quantities import Quantity

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
    norms = [row.where for row in rows if row.quantity is Quantity.DISPLACEMENT_NORM]
    modules = ("embed", "empty", "layer.0", "scale")
    assert norms == [
        place
        for run in ("es", "grpo")
        for place in (
            f"total:{run}",
            *(f"module:{run}:{name}" for name in modules),
            *(f"tensor:{run}:{name}" for name in SHAPES),
        )
    ]
    assert {(row.quantity, row.where) for row in rows if "|" in row.where or ".." in row.where} == {
        (Quantity.DISPLACEMENT_COSINE, "es|grpo"),
        (Quantity.DISPLACEMENT_EXPONENT, "es..grpo"),
    }
    assert [row.step for row in rows if row.where.startswith("total")] == [2] * 4 + [3] * 4
    assert not any(row.quantity is Quantity.EFFECTIVE_DIMENSION_RATIO for row in rows)


def test_shape_of_the_changes_is_exact(saved):
    """Unchanged entries, largest change and kurtosis against rational arithmetic."""
    (base, one, *_), paths = saved
    kept = one["scale"].clone()
    kept[3:] = base["scale"][3:]
    save_file({**one, "scale": kept}, paths[1])
    result = measure_displacements(paths[0], paths[1:2], chunk=5)
    row = list(SHAPES).index("scale")
    exact = [Fraction(x) - Fraction(z) for x, z in zip(kept.tolist(), base["scale"].tolist(), strict=True)]
    still = sum(d == 0 for d in exact)
    assert 8 <= still < 11
    assert result.unchanged[row, 0] == still
    assert result.unchanged_fractions[0, row] == still / 11
    assert result.largest[row, 0] == float(max(map(abs, exact)))
    kurtosis = 11 * sum(d**4 for d in exact) / sum(d**2 for d in exact) ** 2
    assert result.kurtoses[0, row] == pytest.approx(float(kurtosis), rel=1e-12)
    total = result.grouped(lambda name: "")
    assert total.tensors == {"": sum(result.tensors.values())}
    assert total.unchanged[0, 0] == result.unchanged.sum() >= still
    assert total.largest[0, 0] == result.largest.max()
    np.testing.assert_allclose(total.norms, result.norms, rtol=1e-14)


def test_kurtosis_tells_a_gaussian_from_a_sparse_displacement(tmp_path):
    """n sum d^4 / (sum d^2)^2 of Gaussian noise: 3 +- sqrt(24/n)."""
    n = 20_000
    noise = np.random.default_rng(0).normal(size=n)
    save_file({"w": torch.zeros(n, dtype=torch.float64)}, tmp_path / "a.safetensors")
    save_file({"w": torch.from_numpy(noise)}, tmp_path / "b.safetensors")
    save_file({"w": torch.from_numpy(noise * (np.arange(n) % 2))}, tmp_path / "c.safetensors")
    dense, sparse = (
        measure_displacements(tmp_path / "a.safetensors", [tmp_path / f"{x}.safetensors"]).kurtoses[0, 0] for x in "bc"
    )
    assert abs(dense - 3) < 5 * math.sqrt(24 / n)
    assert abs(sparse - 3) > 5 * math.sqrt(24 / n)


def test_exponent_of_a_walk_is_one_and_of_straight_motion_two(tmp_path):
    """Slope over T = 10, 40, 90: its law has std sqrt(2/n w'Cw), here 0.0058; two is 170 of them away."""
    n, steps = 20_000, (10, 40, 90)
    rng = np.random.default_rng(1)
    base = torch.zeros(n, dtype=torch.float64)
    save_file({"w": base}, tmp_path / "base.safetensors")
    path, at = np.zeros(n), 0
    (tmp_path / "walk").mkdir()
    (tmp_path / "line").mkdir()
    for step in steps:
        path, at = path + math.sqrt(step - at) * rng.normal(size=n), step
        save_file({"w": torch.from_numpy(path)}, tmp_path / f"walk/step_{step}.safetensors")
        save_file({"w": base + step}, tmp_path / f"line/step_{step}.safetensors")

    def exponent(*folders):
        files = [tmp_path / f"{folder}/step_{step}.safetensors" for folder, step in zip(folders, steps, strict=True)]
        return measure_displacements(tmp_path / "base.safetensors", files).exponent

    assert abs(exponent("walk", "walk", "walk") - 1) < 5 * 0.0058
    assert exponent("line", "line", "line") == pytest.approx(2, abs=1e-12)
    assert exponent("walk", "line", "walk") is None  # not one run


def test_layers_and_modules_add_up(tmp_path):
    rng = np.random.default_rng(2)
    names = [f"model.layers.{i}.{m}.weight" for i in range(2) for m in ("self_attn.q_proj", "mlp.up_proj")]
    names += ["model.embed_tokens.weight", "model.norm.weight"]
    save_file({name: torch.zeros(4, 3, dtype=torch.float64) for name in names}, tmp_path / "a.safetensors")
    moved = {name: torch.from_numpy(rng.normal(size=(4, 3))) for name in names}
    save_file(moved, tmp_path / "b.safetensors")
    rows = measure_displacements(tmp_path / "a.safetensors", {"b": tmp_path / "b.safetensors"}).measurements([2.0])
    value = {(row.quantity, row.where): row.value for row in rows}

    def norm(part):
        return math.sqrt(sum(float(t.square().sum()) for n, t in moved.items() if part in n))

    for where, part in {
        "total:b": "",
        "layer:b:1": "layers.1.",
        "module:b:self_attn.q_proj": "q_proj",
        "module:b:embed_tokens": "embed",
        "tensor:b:model.norm.weight": "model.norm",
    }.items():
        assert value[Quantity.DISPLACEMENT_NORM, where] == pytest.approx(norm(part), rel=1e-12)
        size = 12 * sum(part in name for name in names)
        ratio = norm(part) ** 2 / (2.0 * size)
        assert value[Quantity.EFFECTIVE_DIMENSION_RATIO, where] == pytest.approx(ratio, rel=1e-12)
    assert not any(where.startswith("layer:b:") and where[-1] not in "01" for _, where in value)


def test_keeping_going_measures_what_can_be_measured(saved, tmp_path):
    (_, one, *_), paths = saved
    broken = {name: tensor.clone() for name, tensor in one.items()}
    broken["layer.0"][0, 0, :2] = float("nan")
    del broken["embed"]
    broken["new"] = torch.ones(3)
    save_file(broken, tmp_path / "broken.safetensors")
    asked = {"good": paths[1], "broken": tmp_path / "broken.safetensors", "absent": tmp_path / "absent.safetensors"}
    result = measure_displacements(paths[0], asked, keep_going=True)
    assert result.labels == ("good", "broken")
    clean = measure_displacements(paths[0], {"good": paths[1]})
    np.testing.assert_allclose(result.tensor_norms[0], clean.tensor_norms[0], rtol=1e-14)
    rows = dict(zip(SHAPES, result.tensor_norms[1], strict=True))
    assert math.isnan(rows["embed"])
    assert math.isnan(rows["layer.0"])
    assert math.isnan(result.norms[1])
    assert rows["scale"] == pytest.approx(clean.tensor_norms[0][list(SHAPES).index("scale")], rel=1e-14)
    words = "\n".join(result.problems)
    for part in ("cannot read", "lacks the tensor embed", "holds the tensor new", "layer.0", "has 2 NaN"):
        assert part in words
    with pytest.raises(DataError, match="no checkpoint of 1 can be read"):
        measure_displacements(paths[0], [tmp_path / "absent.safetensors"], keep_going=True)


@pytest.mark.parametrize("threads", [1, 5])
def test_segments_and_threads_do_not_change_the_sums(saved, monkeypatch, threads):
    _, paths = saved
    whole = measure_displacements(paths[0], paths[1:], threads=1)
    monkeypatch.setattr("estheory.measurement.displacement_sums.SEGMENT", 13)
    pieces = measure_displacements(paths[0], paths[1:], threads=threads)
    for name in ("gram", "fourth", "unchanged", "largest"):
        np.testing.assert_allclose(getattr(pieces, name), getattr(whole, name), rtol=1e-13)


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
