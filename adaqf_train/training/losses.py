"""The losses: pure functions of tensors, in float32 whatever autocast computed. Per-sample ones return (B,)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy, normalize, softplus


def masked_mse(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error over the real frames of each clip (MDM's `masked_l2`).

    predicted, target: (B, T, D); mask: (B, T), True = real. Returns (B,).
    """
    squared = (predicted.float() - target.float()).square().sum(dim=-1) * mask
    return squared.sum(dim=-1) / (mask.sum(dim=-1) * target.shape[-1])


def masked_cross_entropy(logits: Tensor, tokens: Tensor, asked: Tensor) -> Tensor:
    """Mean cross-entropy over the places that are asked for.

    logits: (B, N, K); tokens: (B, N) long; asked: (B, N) bool, at least one place of each item. Returns (B,).
    """
    each = cross_entropy(logits.float().transpose(1, 2), tokens, reduction="none") * asked
    return each.sum(dim=-1) / asked.sum(dim=-1)


def divergence_from_normal(mean: Tensor, log_variance: Tensor, mask: Tensor) -> Tensor:
    """Kullback-Leibler divergence of normal distributions from the standard one, averaged over real latent frames.

    mean, log_variance: (B, N, C); mask: (B, N), True = real. Summed over channels. Returns (B,).
    """
    mean, log_variance = mean.float(), log_variance.float()
    each = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=-1) * mask
    return each.sum(dim=-1) / mask.sum(dim=-1)


def margin_contrastive(text: Tensor, motion: Tensor, ids: Tensor, margin: float) -> Tensor:
    """The loss T2M's evaluators were trained with (Hadsell et al. 2006; Guo et al. 2022), a scalar.

    Squared Euclidean distance of pairs, and squared lack of distance below the margin for each text with the motion
    of the next row: items come in a drawn order, so that is a random wrong motion. text, motion: (N, E); ids: (N,),
    equal where two items count as the same, which then are no negatives of each other.
    """
    text, motion = text.float(), motion.float()
    pairs = (text - motion).square().sum(dim=-1).mean()
    other = ids != ids.roll(-1)
    distance = (text - motion.roll(-1, dims=0)).square().sum(dim=-1).clamp(min=1e-12).sqrt()
    return pairs + ((margin - distance).clamp(min=0).square() * other).sum() / other.sum().clamp(min=1)


def consistency(generated: Tensor, reference: Tensor) -> Tensor:
    """Implements Eq. 3 (L_M) and Eq. 4 (L_T): 1 - cosine similarity of embeddings. (B, E), (B, E) -> (B,)."""
    return 1 - cosine_similarity(generated.float(), reference.float(), dim=-1)


def contrastive(
    text: Tensor,
    motion: Tensor,
    ids: Tensor,
    temperature: float | Tensor,
    cosine_weight: float = 1.0,
    flipped: Tensor | None = None,
) -> Tensor:
    """Symmetric InfoNCE plus the mean of 1 - cos of the pairs (Eq. 2 with its sign corrected), a scalar.

    As printed, Eq. 2 is -1 times this loss: minimising it would drive paired embeddings apart.
    text, motion: (N, E); ids: (N,), equal where two items count as the same (`caption_ids`), so that neither is
    the other's negative. cosine_weight: 0 leaves InfoNCE alone. flipped: (N, K, E), wrong texts of each motion, more
    negatives where the motion looks for its text; a row of zeros is none.
    """
    text, motion = normalize(text.float(), dim=-1), normalize(motion.float(), dim=-1)
    with torch.autocast(text.device.type, enabled=False):
        similarity = text @ motion.T
    others = (ids[:, None] == ids) & ~torch.eye(len(ids), dtype=torch.bool, device=ids.device)
    logits = (similarity / temperature).masked_fill(others, float("-inf"))
    target = torch.arange(len(logits), device=logits.device)
    texts = logits.T
    if flipped is not None:
        wrong = (normalize(flipped.float(), dim=-1) * motion[:, None]).sum(dim=-1) / temperature
        wrong = wrong.masked_fill((flipped == 0).all(dim=-1), float("-inf"))
        texts = torch.cat([texts, wrong], dim=1)
    info_nce = (cross_entropy(logits, target) + cross_entropy(texts, target)) / 2
    return info_nce + cosine_weight * (1 - similarity.diagonal()).mean()


def minimal_pair_loss(text: Tensor, motion: Tensor, flipped: Tensor, temperature: float | Tensor) -> Tensor:
    """Logistic loss of telling each motion's text from its flipped ones, by cosine; a scalar, the mean over pairs.

    text, motion: (N, E); flipped: (N, K, E), a row of zeros is none. InfoNCE alone has a caption's flip as one negative
    among a batch's, and hardly sees it once the others are far: here each pair counts for itself.
    """
    there = (flipped != 0).any(dim=-1)
    motion = normalize(motion.float(), dim=-1)
    own = (normalize(text.float(), dim=-1) * motion).sum(dim=-1)
    other = (normalize(flipped.float(), dim=-1) * motion[:, None]).sum(dim=-1)
    return (softplus((other - own[:, None]) / temperature) * there).sum() / there.sum().clamp(min=1)
