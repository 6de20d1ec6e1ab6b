"""The losses: the corrected Eq. 2, feedback per sample, and masks."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cosine_similarity, cross_entropy, normalize

from adaqf_train.config import FeedbackConfig
from adaqf_train.data.batches import MotionBatch
from adaqf_train.data.captions import caption_ids
from adaqf_train.generators.mdm.feedback import Feedback
from adaqf_train.layers import SCALE, _ScaleGradient, scale_gradient
from adaqf_train.training.losses import (
    consistency,
    contrastive,
    divergence_from_normal,
    margin_contrastive,
    masked_cross_entropy,
    masked_mse,
    minimal_pair_loss,
)
from tests.helpers import FLOAT32, deviation

N, E = 6, 5
IDS = torch.arange(N)


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def pairs(rng, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    text = torch.randn(N, E, generator=rng)
    return text, text + noise * torch.randn(N, E, generator=rng)


def test_contrastive_is_the_corrected_equation(rng):
    text, motion = pairs(rng, 1.0)
    s = normalize(text, dim=-1) @ normalize(motion, dim=-1).T
    infonce = (cross_entropy(s / 0.1, IDS) + cross_entropy(s.T / 0.1, IDS)) / 2
    expected = infonce + (1 - s.diagonal()).mean()
    torch.testing.assert_close(contrastive(text, motion, IDS, 0.1), expected)
    torch.testing.assert_close(contrastive(text, motion, IDS, 0.1, cosine_weight=0.0), infonce)


def test_minimising_contrastive_brings_pairs_together(rng):
    """As printed, Eq. 2 has the opposite sign and drives the cosines of pairs to -1."""
    start = torch.randn(2, N, E, generator=rng)
    cosines = {}
    for name, sign in (("corrected", 1.0), ("printed", -1.0)):
        both = start.clone().requires_grad_()
        optimizer = torch.optim.Adam([both], lr=0.05)
        for _ in range(300):
            optimizer.zero_grad()
            (sign * contrastive(both[0], both[1], IDS, 0.1)).backward()
            optimizer.step()
        cosines[name] = (normalize(both[0], dim=-1) * normalize(both[1], dim=-1)).sum(-1).mean().item()
    assert cosines["corrected"] > 0.95
    assert cosines["printed"] < -0.8


def test_equal_captions_are_not_each_others_negatives(rng):
    text, motion = pairs(rng, 0.3)
    text[1], motion[1] = text[0], motion[0] + 0.01
    ids = IDS.clone()
    ids[1] = ids[0]
    masked, unmasked = contrastive(text, motion, ids, 0.1), contrastive(text, motion, IDS, 0.1)
    assert masked < unmasked - 0.1
    everyone_the_same = torch.zeros(N, dtype=torch.long)
    assert contrastive(text, motion, everyone_the_same, 0.1, cosine_weight=0.0) == 0  # no negatives are left


def test_a_flipped_text_is_one_more_negative_of_its_own_motion_alone(rng):
    text, motion, wrong = (torch.randn(N, E, generator=rng) for _ in range(3))
    plain = contrastive(text, motion, IDS, 0.1, cosine_weight=0.0)
    none = torch.zeros(N, 2, E)
    torch.testing.assert_close(contrastive(text, motion, IDS, 0.1, 0.0, none), plain)
    flipped = none.clone()
    flipped[3, 1] = wrong[3]
    unit = [normalize(rows, dim=-1) for rows in (text, motion, wrong)]
    logits = unit[0] @ unit[1][3] / 0.1
    extra = torch.cat([logits, (unit[2][3] @ unit[1][3] / 0.1)[None]])
    more = (extra.logsumexp(0) - logits.logsumexp(0)) / (2 * N)
    torch.testing.assert_close(contrastive(text, motion, IDS, 0.1, 0.0, flipped), plain + more)


def test_the_gradient_of_a_flipped_text_drives_it_away_from_the_motion(rng):
    text, motion = torch.randn(N, E, generator=rng), torch.randn(N, E, generator=rng)
    flipped = motion[:, None].clone().requires_grad_()
    flipped.data += 0.1 * torch.randn(N, 1, E, generator=rng)
    contrastive(text, motion, IDS, 0.1, 0.0, flipped).backward()
    moved = flipped.data - 0.1 * flipped.grad
    before, after = (cosine_similarity(f[:, 0], motion).mean() for f in (flipped.data, moved))
    assert after < before


def test_each_flipped_text_is_told_from_its_motions_own_by_itself(rng):
    text, motion, flipped = torch.randn(N, E, generator=rng), torch.randn(N, E, generator=rng), torch.zeros(N, 2, E)
    assert minimal_pair_loss(text, motion, flipped, 0.1) == 0
    flipped[1, 0], flipped[3, 1] = torch.randn(E, generator=rng), torch.randn(E, generator=rng)
    gaps = [
        cosine_similarity(flipped[row, place], motion[row], dim=0) - cosine_similarity(text[row], motion[row], dim=0)
        for row, place in ((1, 0), (3, 1))
    ]
    expected = sum(torch.log1p((gap / 0.1).exp()) for gap in gaps) / 2
    torch.testing.assert_close(minimal_pair_loss(text, motion, flipped, 0.1), expected)
    told = [minimal_pair_loss(own, motion, motion[:, None] + 0.1, 0.1) for own in (motion, -motion)]
    assert told[0] < 1 < told[1]  # who takes the flip for the motion's own pays


def test_caption_ids_are_equal_for_equal_captions_only():
    a, b, c = caption_ids(["a person walks", "a person runs", "a person walks"]).tolist()
    assert a == c != b


def test_masked_mse_counts_real_frames_only(rng):
    target = torch.randn(2, 6, 3, generator=rng)
    predicted = target.clone()
    mask = torch.arange(6)[None] < torch.tensor([6, 3])[:, None]
    predicted[1, 3:] += 100
    assert masked_mse(predicted, target, mask).tolist() == [0, 0]
    predicted[1, 0] += 3
    torch.testing.assert_close(masked_mse(predicted, target, mask), torch.tensor([0.0, 9.0 / 3]))


def margin_oracle(text, motion, ids, margin: float) -> float:
    """T2M's contrastive loss pair by pair: label 0 for pairs, 1 for each text with the next row's motion."""
    pulled = [float((text[i] - motion[i]).square().sum()) for i in range(N)]
    wrong = [(i, (i + 1) % N) for i in range(N) if ids[i] != ids[(i + 1) % N]]
    pushed = [max(margin - float((text[i] - motion[j]).norm()), 0) ** 2 for i, j in wrong]
    return sum(pulled) / N + (sum(pushed) / len(pushed) if pushed else 0)


def test_margin_contrastive_is_the_loss_of_t2m(rng):
    text, motion = pairs(rng, 1.0)
    for margin in (1.0, 3.0, 10.0):
        expected = margin_oracle(text, motion, IDS, margin)
        assert margin_contrastive(text, motion, IDS, margin).item() == pytest.approx(expected, rel=1e-5)
    some_equal = torch.tensor([0, 0, 2, 3, 4, 0])
    expected = margin_oracle(text, motion, some_equal, 10.0)
    assert margin_contrastive(text, motion, some_equal, 10.0).item() == pytest.approx(expected, rel=1e-5)
    assert expected != pytest.approx(margin_oracle(text, motion, IDS, 10.0))
    nobody = margin_contrastive(text, motion, torch.zeros(N, dtype=torch.long), 10.0)
    assert nobody.item() == pytest.approx(margin_oracle(text, motion, torch.zeros(N), 10.0), rel=1e-5)


def test_margin_contrastive_looks_at_lengths_and_has_a_gradient_where_rows_coincide(rng):
    text, motion = pairs(rng, 0.0)
    assert margin_contrastive(text, 2 * motion, IDS, 1e-3) > 1  # a cosine would not see the difference
    same = torch.zeros(N, E, requires_grad=True)
    margin_contrastive(same, torch.zeros(N, E), IDS, 10.0).backward()
    assert same.grad.isfinite().all()


def test_masked_cross_entropy_counts_what_was_asked_for_alone(rng):
    logits = torch.randn(2, 4, 5, generator=rng)
    tokens = torch.randint(5, (2, 4), generator=rng)
    asked = torch.tensor([[True, True, False, False], [False, False, False, True]])
    expected = [cross_entropy(row[a], t[a]) for row, t, a in zip(logits, tokens, asked, strict=True)]
    torch.testing.assert_close(masked_cross_entropy(logits, tokens, asked), torch.stack(expected))
    changed = torch.where(asked[..., None], logits, logits + torch.randn(2, 4, 5, generator=rng))
    torch.testing.assert_close(masked_cross_entropy(changed, tokens, asked), torch.stack(expected))


def test_divergence_is_that_of_normal_distributions_over_real_frames(rng):
    mean, log_variance = torch.randn(2, 2, 4, 3, generator=rng)
    mask = torch.tensor([[True] * 4, [True, False, False, False]])
    own = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    each = torch.distributions.kl_divergence(own, torch.distributions.Normal(0.0, 1.0)).sum(dim=-1)
    expected = torch.stack([each[0].mean(), each[1, 0]])
    torch.testing.assert_close(divergence_from_normal(mean, log_variance, mask), expected)


def test_consistency_is_zero_for_parallel_and_two_for_opposite_embeddings(rng):
    x = torch.randn(3, E, generator=rng)
    assert deviation(consistency(x, 7 * x), torch.zeros(3)) < FLOAT32
    torch.testing.assert_close(consistency(x, -x), torch.full((3,), 2.0))


class Sums(torch.nn.Module):
    """Extractors whose embeddings are sums over real frames and real words."""

    def embed_motion(self, motion, mask):
        return (motion * mask[..., None]).sum(1)

    def embed_captions(self, captions):
        return torch.tensor([[3.0, 2, 1], [7, 2, 1], [11, 2, 1]])


@pytest.fixture
def batch(rng) -> MotionBatch:
    mask = torch.arange(4)[None] < torch.tensor([4, 4, 2])[:, None]
    motion = torch.randn(3, 4, 3, generator=rng) * mask[..., None]
    return MotionBatch(
        keys=["a", "b", "c"],
        captions=["a", "b", "c"],
        motion=motion,
        mask=mask,
        timestep=torch.tensor([0, 1, 2]),
        keep_text=torch.tensor([True, False, True]),
        index=torch.arange(3),
        seed=0,
        caption=torch.tensor([0, 1, 2]),
    )


def feedback(**settings) -> Feedback:
    return Feedback(Sums(), FeedbackConfig(**settings), torch.tensor([0.9, 0.5, 0.1]), None)


def test_feedback_compares_with_the_real_motion_and_the_text(batch, rng):
    generated = torch.randn(3, 4, 3, generator=rng).requires_grad_()
    motion, text = feedback(on_dropped_text=True)(generated, batch)
    embedding = Sums().embed_motion(generated, batch.mask)
    torch.testing.assert_close(motion, consistency(embedding, Sums().embed_motion(batch.motion, batch.mask)))
    torch.testing.assert_close(text, consistency(embedding, Sums().embed_captions(None)))
    exact, _ = feedback()(batch.motion, batch)
    assert deviation(exact, torch.zeros(3)) < FLOAT32
    motion.sum().backward()
    assert generated.grad[batch.mask].abs().sum() > 0
    assert generated.grad[~batch.mask].abs().sum() == 0


def test_text_feedback_leaves_out_what_was_generated_without_text(batch, rng):
    generated = torch.randn(3, 4, 3, generator=rng)
    _, text = feedback()(generated, batch)
    _, everywhere = feedback(on_dropped_text=True)(generated, batch)
    assert text[1] == 0 != everywhere[1]
    assert torch.equal(text[[0, 2]], everywhere[[0, 2]])


def test_feedback_can_be_weighted_by_how_clean_the_input_was(batch, rng):
    generated = torch.randn(3, 4, 3, generator=rng)
    plain = feedback(on_dropped_text=True)(generated, batch)
    weighted = feedback(on_dropped_text=True, weighting="alpha_bar")(generated, batch)
    for a, b in zip(plain, weighted, strict=True):
        torch.testing.assert_close(b, a * torch.tensor([0.9, 0.5, 0.1]))


def test_scaled_gradients_leave_values_and_multiply_gradients(rng):
    x = torch.randn(3, 4, generator=rng).requires_grad_()
    scaled = _ScaleGradient.apply(_ScaleGradient.apply(x, 1 / SCALE) * 2, SCALE)
    assert torch.equal(scaled, 2 * x)
    scaled.sum().backward()
    assert torch.equal(x.grad, torch.full_like(x, 2))  # powers of two round nothing
    assert scale_gradient(x, SCALE) is x  # on a CPU nothing underflows
