"""Feedback on the predicted motion: by a frozen judge (Eq. 3 and 4), and by the physics of its joints."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, cosine_similarity, relu

from adaqf_train.config import FeedbackConfig, PhysicsConfig
from adaqf_train.data.batches import MotionBatch
from adaqf_train.data.captions import CaptionTable
from adaqf_train.errors import ConfigError
from adaqf_train.generators.mdm.networks import Denoiser
from adaqf_train.judges.base import Judge
from adaqf_train.judges.extractors import Extractors
from adaqf_train.layers import freeze
from adaqf_train.motion.features import decode
from adaqf_train.motion.skeleton import skeleton_of_width
from adaqf_train.training.losses import consistency

FRAMES_PER_STATE = 4  # of the extractors' movement features


class Feedback(nn.Module):
    """Compares generated motions with real ones and with their text in a frozen judge's space (Eq. 3 and 4)."""

    def __init__(self, judge: Judge, config: FeedbackConfig, alpha_bar: Tensor, captions: CaptionTable) -> None:
        """alpha_bar: (steps,) of the diffusion. captions: all that batches refer to; embedded once, here."""
        super().__init__()
        self.judge, self.config = freeze(judge), config
        weight = alpha_bar if config.weighting == "alpha_bar" else torch.ones_like(alpha_bar)
        timestep, last = torch.arange(len(weight)), config.max_timestep
        weight = weight * (timestep >= config.min_timestep) * (last is None or timestep <= last)
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("captions", judge.embed_captions(captions), persistent=False)

    def forward(self, generated: Tensor, batch: MotionBatch) -> tuple[Tensor, Tensor]:
        """Compute L_M and L_T, (B,) each, weighted by timestep, of generated normalised features (B, T, D)."""
        with torch.no_grad():
            real = self.judge.embed_motion(batch.motion, batch.mask)
        embedding, own = self.judge.embed_motion(generated, batch.mask), self.captions[batch.caption]
        motion, text = consistency(embedding, real), consistency(embedding, own)
        if self.config.hinge:
            text = relu(text - consistency(real, own))
        if not self.config.on_dropped_text:
            text = text * batch.keep_text
        weight = self.weight[batch.timestep]
        return motion * weight, text * weight


def balanced(feedback: Tensor, reconstruction: Tensor, generated: Tensor, share: float) -> Tensor:
    """Scale the feedback so that its gradient on the predicted motion is a share of the reconstruction's.

    Args:
        feedback: Scalar, a function of `generated`.
        reconstruction: Scalar, likewise.
        generated: (B, T, D), of which both are functions.
        share: ‖∇ scaled feedback‖ / ‖∇ reconstruction‖, over the batch.

    Returns:
        The scaled feedback. Its gradient reaches what made `generated`; the scale is a constant.
    """
    (pull,) = torch.autograd.grad(feedback, generated)  # which also saves a second pass through the judge
    (own,) = torch.autograd.grad(reconstruction, generated, retain_graph=True)
    scale = share * own.norm() / pull.norm().clamp(min=torch.finfo(pull.dtype).tiny)
    scaled = (generated * (scale * pull).detach()).sum()
    return scaled - scaled.detach() + (scale * feedback).detach()


class Physics(nn.Module):
    """Squared errors of the speeds of decoded joints, in (m/s)² (MDM's geometric losses, in SI units)."""

    def __init__(self, config: PhysicsConfig, mean: Tensor, std: Tensor) -> None:
        """mean, std: (D,) of the features."""
        super().__init__()
        self.config, self.skeleton = config, skeleton_of_width(len(mean))
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, generated: Tensor, batch: MotionBatch) -> tuple[Tensor, Tensor]:
        """Compute the errors of joint velocities and of feet in contact, (B,) each, of features (B, T, D).

        The first is the mean over joints and pairs of real frames; the second that over feet and the pairs in which the
        real motion's foot has contact, whose speed should be zero.
        """
        with torch.autocast(generated.device.type, enabled=False):
            own, real = (self._velocities(x.float()) for x in (generated, batch.motion))
            pairs = batch.mask[:, 1:].float()
            error = (own - real).square().sum(dim=-1).mean(dim=-1) * pairs
            contacts = batch.motion[..., -4:] * self.std[-4:] + self.mean[-4:] > 0.5
            held = contacts[:, :-1] * pairs[..., None]
            slide = own[:, :, list(self.skeleton.feet)].square().sum(dim=-1) * held
        return error.sum(dim=-1) / pairs.sum(dim=-1), slide.sum(dim=(1, 2)) / held.sum(dim=(1, 2)).clamp(min=1)

    def _velocities(self, normalised: Tensor) -> Tensor:
        """Of joints (B, T - 1, J, 3), in metres per second."""
        joints = decode(normalised * self.std + self.mean)
        return joints.diff(dim=1) * (self.skeleton.fps / self.skeleton.units_per_metre)


class HiddenAlignment(nn.Module):
    """Draws a layer of the denoiser to the extractors' features of the real motion (REPA, Yu et al. 2025)."""

    def __init__(self, judge: Judge, denoiser: Denoiser) -> None:
        super().__init__()
        width = denoiser.config.width
        if not isinstance(judge, Extractors):
            raise ConfigError(
                "feedback.hidden compares with features of the extractors. Set feedback.judge=extractors."
            )
        self._judge = (freeze(judge),)  # a tuple: it is not trained, and the feedback has it already
        self.pool = FRAMES_PER_STATE // denoiser.config.frames_per_token
        outputs = judge.motion.movement_out.out_features
        self.project = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, outputs))

    def forward(self, hidden: Tensor, batch: MotionBatch) -> Tensor:
        """1 - cosine to the features, (B,), averaged over real groups of four frames. hidden: (B, tokens, width)."""
        with torch.no_grad():
            wanted, real = self._judge[0].motion.frames(batch.motion, batch.mask)
        found = self.project(avg_pool1d(hidden.transpose(1, 2), self.pool).transpose(1, 2))
        away = (1 - cosine_similarity(found.float(), wanted.float(), dim=-1)) * real
        return away.sum(dim=-1) / real.sum(dim=-1)
