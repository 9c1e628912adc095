"""Token KL against a brute-force computation and against the quadratic law."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from estheory.errors import DataError
from estheory.measurement.kl import TokenKL, divergences, prompt_tokens, token_kl
from estheory.models.parameters import FlatParameters


def brute_force(base, tuned, prompts):
    """Sum over places and words in numpy float64, one prompt at a time."""
    sums = []
    for prompt in prompts:
        total = 0.0
        with torch.no_grad():
            a = base(input_ids=torch.tensor([prompt])).logits[0].double().numpy()
            b = tuned(input_ids=torch.tensor([prompt])).logits[0].double().numpy()
        for x, y in zip(a, b, strict=True):
            p, q = np.exp(x) / np.exp(x).sum(), np.exp(y) / np.exp(y).sum()
            total += sum(pi * math.log(pi / qi) for pi, qi in zip(p, q, strict=True))
        sums.append(total)
    return sums


def test_agrees_with_brute_force_for_every_batch_size(make_llama, prompts):
    base, tuned = make_llama(0), make_llama(1)
    expected = brute_force(base, tuned, prompts)
    assert min(expected) > 0.05  # the models differ, so the comparison means something
    for batch_size in (1, 3, 16):
        got = token_kl(base, tuned, prompts, batch_size=batch_size)
        # float32 logits of size 10 carry errors of 1e-6; the derivative of KL in a logit is at most 1
        np.testing.assert_allclose(got.sums, expected, atol=2e-5)
        assert got.tokens == tuple(len(prompt) for prompt in prompts)
        assert got.value == pytest.approx(sum(expected) / sum(got.tokens), abs=1e-5)


def test_is_not_symmetric(make_llama, prompts):
    a, b = make_llama(0), make_llama(1)
    assert abs(token_kl(a, b, prompts).value / token_kl(b, a, prompts).value - 1) > 0.01


def test_a_model_against_itself_is_exactly_zero(make_llama, prompts):
    result = token_kl(make_llama(3), make_llama(3), prompts, batch_size=2)
    assert result.value == 0.0
    assert result.stderr == 0.0


def test_small_displacements_follow_the_quadratic_law(make_llama, prompts, fisher_factor):
    model, moved = make_llama(0), make_llama(0)
    factor = fisher_factor(model, FlatParameters(model), prompts)
    flat = FlatParameters(moved)
    centre = flat.vector.clone()
    direction = torch.randn(flat.dim, generator=torch.Generator().manual_seed(5))
    exact = 0.5 * float((factor @ direction.double()).square().sum())

    def even_part(scale: float) -> float:
        """KL / scale^2 averaged over both signs: the cubic term cancels, the error is O(scale^2)."""
        values = []
        for sign in (1, -1):
            flat.vector.copy_(centre + sign * scale * direction)
            values.append(token_kl(model, moved, prompts).value / scale**2)
        return sum(values) / 2

    coarse, fine = even_part(4e-3), even_part(2e-3)
    # an O(scale^2) error shrinks to a quarter, so the fine one is a third of the difference; twice that is allowed,
    # and 1e-3 for rounding: 1e-6 in the logits beside displacements of about 1e-2 gives 1e-4 each
    assert abs(fine - exact) < 2 / 3 * abs(coarse - fine) + 1e-3 * exact
    assert abs(coarse / exact - 1) < 0.05  # a factor of 2 lost anywhere cannot pass


def test_float32_normalisation_would_not_resolve_a_small_divergence():
    """The reason for float64: logits of size 20 and a shift of 1e-5."""
    generator = torch.Generator().manual_seed(0)
    logits = 20 * torch.randn(200, 50, generator=generator)
    shift = 1e-5 * torch.randn(200, 50, generator=generator)
    base, tuned = logits.double(), logits.double() + shift.double()
    p = torch.softmax(base, -1)
    variance = (p * shift.double() ** 2).sum(-1) - (p * shift.double()).sum(-1) ** 2
    expected = float(variance.mean() / 2)
    assert float(divergences(base, tuned).mean()) == pytest.approx(expected, rel=1e-3)
    low = [torch.log_softmax(x.float(), -1) for x in (base, tuned)]
    float32 = float((low[0].exp() * (low[0] - low[1])).sum(-1).mean())
    assert abs(float32 / expected - 1) > 10


def test_standard_error_is_calibrated_over_resampled_prompts():
    """Ratio estimator on prompts of unequal length: mean squared z over 2000 sets of 40 prompts is about 1."""
    rng = np.random.default_rng(1)
    errors, claims = [], []
    for _ in range(2000):
        lengths = rng.integers(2, 30, size=40)
        sums = lengths * 0.3 + rng.normal(size=40) * np.sqrt(lengths)
        result = TokenKL(sums=tuple(sums), tokens=tuple(int(n) for n in lengths))
        errors.append(result.value - 0.3)
        claims.append(result.stderr)
    ratio = np.mean(np.square(errors)) / np.mean(np.square(claims))
    # relative standard error of a variance of 2000 normals is sqrt(2/2000) = 0.032; 5 of them, and 1/40 of bias
    assert abs(ratio - 1) < 5 * math.sqrt(2 / 2000) + 1 / 40
    naive = np.mean([np.std(rng.normal(size=40)) for _ in range(3)])  # a per-prompt std is far off that scale
    assert naive > 10 * np.mean(claims)


def test_one_prompt_has_no_standard_error():
    assert math.isnan(TokenKL(sums=(1.0,), tokens=(4,)).stderr)


def test_measurement_carries_value_and_place():
    row = TokenKL(sums=(1.0, 2.0), tokens=(4, 2)).measurement(where="addition", step=7)
    assert (row.quantity, row.value, row.step, row.where) == ("kl_drift", 0.5, 7, "addition")


def test_bad_models_and_prompts_are_refused(make_llama, prompts):
    broken = make_llama(0)
    with torch.no_grad():
        broken.model.norm.weight.fill_(float("nan"))
    with pytest.raises(DataError, match="NaN"):
        token_kl(make_llama(0), broken, prompts)
    with pytest.raises(DataError, match="vocabulary"):
        divergences(torch.zeros(3, 5), torch.zeros(3, 6))

    def tokenizer(text):
        return {"input_ids": list(range(len(text)))}

    assert prompt_tokens(tokenizer, ["ab", "c"], context=2) == [[0, 1], [0]]
    with pytest.raises(DataError, match=r"prompt 2 has 3 tokens, the model takes 1 to 2"):
        prompt_tokens(tokenizer, ["ab", "abc"], context=2)
    with pytest.raises(DataError, match="prompt 1 has 0 tokens"):
        prompt_tokens(tokenizer, [""])
    with pytest.raises(DataError, match="no prompts"):
        prompt_tokens(tokenizer, [])
