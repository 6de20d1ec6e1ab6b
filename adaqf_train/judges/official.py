"""The official evaluators of HumanML3D and KIT-ML, on which the field's FID and R-precision are based.

Source: Guo et al. 2022, `networks/modules.py` and `networks/evaluator_wrapper.py` of EricGuo5513/text-to-motion; names
and shapes are those of its `finest.tar`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad as zero_pad

from adaclip.files import check_unpacked
from adaqf_train.data.batches import pad
from adaqf_train.data.captions import CaptionTable
from adaqf_train.data.clips import load_array
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.data.official import evaluator_statistics
from adaqf_train.errors import DataError
from adaqf_train.judges.base import Judge
from adaqf_train.judges.official_words import TAG_CODES, VECTOR, Token, WordVectors, tokens_for, tokens_of
from adaqf_train.layers import freeze, last_states, projection_head
from adaqf_train.motion.features import slices_of_width

FRAMES = 196  # every clip is padded to this length, as the official loader does
UNIT = 4  # frames to one step of the movement encoder
CHECKPOINT = "text_mot_match/model/finest.tar"
PARTS = ("movement_encoder", "motion_encoder", "text_encoder")  # of the checkpoint


class MovementEncoder(nn.Module):
    """Two halving convolutions over frames: (B, T, D - 4) -> (B, T / 4, 512)."""

    def __init__(self, inputs: int, hidden: int = 512, outputs: int = 512) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv1d(inputs, hidden, 4, 2, 1),
            nn.Dropout(0.2),
            nn.LeakyReLU(0.2),
            nn.Conv1d(hidden, outputs, 4, 2, 1),
            nn.Dropout(0.2),
            nn.LeakyReLU(0.2),
        )
        self.out_net = nn.Linear(outputs, outputs)

    def forward(self, motion: Tensor) -> Tensor:
        return self.out_net(self.main(motion.transpose(1, 2)).transpose(1, 2))


class GRUSummary(nn.Module):
    """The common part of the motion and the text encoder: linear layer, bidirectional GRU with learnt state, head."""

    def __init__(self, inputs: int, hidden: int, outputs: int = 512) -> None:
        super().__init__()
        self.input_emb = nn.Linear(inputs, hidden)
        self.gru = nn.GRU(hidden, hidden, batch_first=True, bidirectional=True)
        self.output_net = projection_head(2 * hidden, hidden, outputs)
        self.hidden = nn.Parameter(torch.randn(2, 1, hidden))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, inputs), lengths (B,) -> (B, outputs), in the given order (upstream sorts them by length)."""
        return self.output_net(last_states(self.gru, self.input_emb(x), lengths, self.hidden))


class TextEncoder(GRUSummary):
    """Word vectors and tag codes -> (B, 512)."""

    def __init__(self, hidden: int = 512, outputs: int = 512) -> None:
        super().__init__(VECTOR, hidden, outputs)
        self.pos_emb = nn.Linear(TAG_CODES, VECTOR)

    def forward(self, words: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """(B, 22, 300), (B, 22, 15), lengths (B,) -> (B, outputs)."""
        return super().forward(words + self.pos_emb(tags), lengths)


class T2MEvaluator(nn.Module):
    """The official networks with their own statistics; embeds texts and motions as every judge does."""

    width = 512
    cosine = False  # trained on Euclidean distances
    batch = 128

    def __init__(
        self, checkpoint: Path, glove: Path, mean: np.ndarray, std: np.ndarray, tokens: Mapping[str, Sequence[Token]]
    ) -> None:
        """Load `finest.tar` and the `glove` folder; DataError if one is missing, damaged or for another data set.

        mean, std: (D,) of the *evaluators*; with the data set's own, all figures are wrong. tokens: words and parts of
        speech of the data set's captions; other texts need spaCy.
        """
        super().__init__()
        self.inputs = slices_of_width(len(mean)).contacts.start
        self.mean, self.std, self.tokens, self.words = mean, std, tokens, WordVectors(glove)
        self.movement, self.motion, self.text = MovementEncoder(self.inputs), GRUSummary(512, 1024), TextEncoder()
        stored = _read_checkpoint(checkpoint)
        for name, module in zip(PARTS, (self.movement, self.motion, self.text), strict=True):
            try:
                module.load_state_dict(stored[name])
            except RuntimeError as error:
                reason = str(error).splitlines()[-1].strip()
                raise DataError(
                    f"{checkpoint}: {name} does not fit data of {len(mean)} features ({reason}). "
                    "Use the evaluators of this data set."
                ) from error
        freeze(self)

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts as float64 (N, 512), in the given order; DataError if a text needs spaCy and there is none."""
        return self.text_embeddings(texts).cpu().double().numpy()

    @torch.no_grad()
    def text_embeddings(self, texts: Sequence[str]) -> Tensor:
        """Embed texts into (N, 512), on the evaluator's device."""
        rows = []
        for start in range(0, len(texts), self.batch):
            encoded = [self.words.encode(tokens_for(text, self.tokens)) for text in texts[start : start + self.batch]]
            words, tags, lengths = (torch.from_numpy(np.stack(part)) for part in zip(*encoded, strict=True))
            rows.append(self.text(words.to(self._device), tags.to(self._device), lengths))
        return torch.cat(rows)

    @torch.no_grad()
    def embed_motions(self, motions: Sequence[np.ndarray]) -> np.ndarray:
        """Embed de-normalised features (T_i, D), T_i >= 4, as float64 (N, 512), in the given order."""
        rows = []
        for start in range(0, len(motions), self.batch):
            clips = [(motion - self.mean) / self.std for motion in motions[start : start + self.batch]]
            motion, mask = pad([clip[: len(clip) // UNIT * UNIT] for clip in clips])
            rows.append(self.motion_embeddings(motion.to(self._device), mask.to(self._device)).cpu())
        return torch.cat(rows).double().numpy()

    def motion_embeddings(self, motion: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D) normalised by the evaluators' statistics, zero where mask (B, T) is False -> (B, 512).

        Each clip is zero-padded to 196 frames: the convolutions see one frame past a clip's end, so the embedding would
        otherwise depend on the longest clip of the batch.
        """
        movement = self.movement(zero_pad(motion[..., : self.inputs], (0, 0, 0, max(0, FRAMES - motion.shape[1]))))
        return self.motion(movement, mask.sum(dim=-1) // UNIT)


class OfficialJudge(Judge):
    """The official evaluators in the place of the feedback's extractors (Table 7): embeds motions differentiably.

    The evaluators expect statistics of their own, so features are converted from the generator's first.
    """

    width = 512

    def __init__(self, evaluator: T2MEvaluator, mean: np.ndarray, std: np.ndarray) -> None:
        """mean, std: (D,) of the generator's features."""
        super().__init__()
        self.evaluator = evaluator
        self.register_buffer("scale", torch.from_numpy(np.float32(std / evaluator.std)))
        self.register_buffer("shift", torch.from_numpy(np.float32((mean - evaluator.mean) / evaluator.std)))

    @classmethod
    def load(cls, files: Path, dataset: MotionDataset) -> OfficialJudge:
        """From a folder of the official files; DataError names what is missing or has no parts of speech."""
        return cls(load_official(files, dataset.folder), dataset.mean, dataset.std)

    def embed_motion(self, motion: Tensor, mask: Tensor) -> Tensor:
        theirs = (motion * self.scale + self.shift).masked_fill(~mask[..., None], 0)
        return self.evaluator.motion_embeddings(theirs, mask)

    def embed_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        raise TypeError("The official evaluators read words, not token ids: use embed_captions.")

    def embed_captions(self, captions: CaptionTable) -> Tensor:
        """Embed every caption of a table into (N, 512), from GloVe vectors and parts of speech."""
        return self.evaluator.text_embeddings(captions.texts)


def load_official(files: Path, data: Path, device: torch.device | str = "cpu") -> T2MEvaluator:
    """Load the official evaluators of a data set from a folder of their files; DataError names what is missing."""
    glove = sorted(files.rglob("our_vab_data.npy"))
    if not glove:
        raise DataError(f"{files}: contains no glove/our_vab_data.npy. Download the official glove files into it.")
    statistics = evaluator_statistics(data) or _statistics_in(files, data)
    return T2MEvaluator(find_checkpoint(files), glove[0].parent, *statistics, tokens_of(data)).to(device)


def _statistics_in(files: Path, data: Path) -> tuple[np.ndarray, np.ndarray]:
    for meta in sorted(files.rglob("Comp_v6_KLD*/meta/mean.npy")):
        mean, std = load_array(meta), load_array(meta.with_name("std.npy"))
        if mean.shape == std.shape == load_array(data / "Mean.npy").shape:
            return mean.astype(np.float32), std.astype(np.float32)
    raise DataError(
        f"{data}: the evaluators' own statistics are missing. Put t2m_mean.npy and t2m_std.npy (KIT-ML: kit_…) beside "
        f"the data set, or Comp_v6_KLD…/meta/ into {files}: they come with the evaluators."
    )


def find_checkpoint(folder: Path) -> Path:
    """Find `finest.tar` of the official evaluators under a folder; DataError unless there is exactly one."""
    found = sorted(folder.rglob(CHECKPOINT))
    if len(found) != 1:
        what = "more than one" if found else "no"
        raise DataError(
            f"{folder}: contains {what} {CHECKPOINT}. Give the official t2m (or kit) folder of checkpoints."
        )
    return found[0]


def _read_checkpoint(path: Path) -> dict[str, Mapping[str, Tensor]]:
    if not path.is_file():
        raise DataError(f"{path}: missing. Download the official evaluators.")
    try:
        check_unpacked(path)
        stored = torch.load(path, map_location="cpu", weights_only=True)  # tensors and plain containers only
    except Exception as error:  # torch raises many types for a damaged archive
        raise DataError(
            f"{path}: not a readable checkpoint ({error.__class__.__name__}). Download it again."
        ) from error
    missing = [name for name in PARTS if not isinstance(stored, dict) or name not in stored]
    if missing:
        raise DataError(f"{path}: {', '.join(missing)} missing; these are not the evaluators. Download them again.")
    return stored
