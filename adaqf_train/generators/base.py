"""The public face of every text-to-motion generator, whatever its family."""

from __future__ import annotations

import re
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np
import torch
from torch import Tensor, nn

from adaclip import AdaCLIP, TextFeatures
from adaclip.card import CardDetails
from adaclip.hub import LoadOptions, push_folder
from adaclip.text import LongPrompts
from adaqf_train.config import DataConfig, SchedulerName
from adaqf_train.errors import ConfigError
from adaqf_train.generators import folder as generator_files
from adaqf_train.generators.graphs import OnStep, SamplingGraphs
from adaqf_train.generators.inpainting import Keep
from adaqf_train.generators.requests import Limits, Request, Seconds, check_count, requests_of
from adaqf_train.generators.sampling import Batch, Draw, batches
from adaqf_train.motion import features as motion_features
from adaqf_train.motion.skeleton import skeleton_of_width

Output = Literal["joints", "features"]


class MotionGenerator(nn.Module, ABC):
    """Prompts in, motions out; needs no data set.

    `MotionGenerator.from_pretrained` loads a generator of any family. A family's class implements `_sample`, `settings`
    and `build`. The text encoder is no submodule: it has a folder of its own, and `parameters` are the generator's.

    Example:
        >>> generator = MotionGenerator.from_pretrained("runs/demo/adaqf")
        >>> joints = generator.generate(["a person bows"], seconds=4.0)[0]  # (80, 22, 3)
    """

    family: ClassVar[str]  # the key in config.json; the name of the family's folder
    title: ClassVar[str]  # the family's name in messages and reports
    method: ClassVar[str] = "diffusion"  # tag of its card on the Hub
    segments: ClassVar[bool] = False  # whether a motion may be made of several prompts
    group: int = 1  # frames that the networks handle together; unit_frames is a multiple
    levels: int | None = None  # of detail that motions are made of; None: the family has none to leave out
    graphs: bool = True  # whether a GPU samples batches of a repeated shape as CUDA graphs
    own_base: bool = False  # the encoder's base was trained too: it is saved with the generator, not copied
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        encoder: AdaCLIP,
        mean: Tensor,
        std: Tensor,
        sampling: Any,
        unit_frames: int = DataConfig.unit_frames,
        max_frames: int = DataConfig.max_frames,
    ) -> None:
        """mean, std: (D,) of the features that the networks were trained on.

        sampling: dataclass of the sampling settings: `guidance`, `steps`, `batch` and the family's own. unit_frames,
        max_frames: lengths are multiples of the one and below the other.
        """
        super().__init__()
        self._siblings, self._graphs = {"encoder": encoder.eval()}, SamplingGraphs()
        self.register_buffer("mean", mean.float())
        self.register_buffer("std", std.float())
        self.sampling, self.unit_frames, self.max_frames = sampling, unit_frames, max_frames
        self.skeleton = skeleton_of_width(len(mean))

    @abstractmethod
    def _sample(self, batch: Batch, settings: Any, on_step: OnStep, **options: Any) -> Tensor:
        """Normalised features (B, T, D) of the motions of a batch, each with its own noise.

        Args:
            batch: The motions, and the features of their texts on this generator's device.
            settings: The sampling settings of this call.
            on_step: To be called after every step, `steps` times in all.
            options: Of the family's own methods, such as `edit`.
        """

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Everything that `build` needs beside the encoder and the statistics, ready for JSON."""

    @classmethod
    @abstractmethod
    def build(cls, encoder: AdaCLIP, mean: Tensor, std: Tensor, settings: dict[str, Any]) -> Self:
        """An untrained generator with what `settings` gave."""

    @classmethod
    def from_pretrained(cls, folder_or_repo: str | Path, **load: Any) -> Self:
        """Loads a generator from its folder or from a Hub repository.

        Args:
            folder_or_repo: A folder, or owner/name on the Hub.
            load: device, dtype (of the networks; None: as trained), revision, token, cache_dir, local_files_only and
                subfolder, as in `AdaCLIP.from_pretrained`.

        Returns:
            A generator of the folder's family, which is this class's unless this is `MotionGenerator`.

        Raises:
            ArtefactError: A file is missing, damaged or does not fit.
            AdaCLIPError: The encoder cannot be loaded, or the Hub cannot be reached.
        """
        return generator_files.load(cls, folder_or_repo, LoadOptions(**load))

    def save_pretrained(
        self, folder: str | Path, *, details: CardDetails | None = None, repo_id: str | None = None
    ) -> Path:
        """Writes everything that `from_pretrained` needs; a base that is a local folder is copied along.

        Args:
            folder: Where to write. A folder that holds anything but a generator is not replaced.
            details: Licence, data sets and metrics for the card; None: the encoder's.
            repo_id: The Hub repository that the card names.

        Returns:
            The folder.

        Raises:
            AdaCLIPError: The folder holds something else.
        """
        return generator_files.save(Path(folder), self, details, repo_id)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        details: CardDetails | None = None,
        token: str | bool | None = None,
        private: bool | None = None,
        revision: str | None = None,
        commit_message: str = "Upload text-to-motion generator",
    ) -> str:
        """Uploads everything that `from_pretrained` needs to the Hugging Face Hub.

        Args:
            repo_id: owner/name; created if it does not exist.
            details: As in `save_pretrained`.
            token: Access token; None: the one of `hf auth login`.
            private: Whether a new repository is private.
            revision: Branch to push to.
            commit_message: Message of the commit.

        Returns:
            The commit's address.

        Raises:
            AdaCLIPError: The upload fails.
        """
        with tempfile.TemporaryDirectory() as staging:
            made = self.save_pretrained(Path(staging) / "generator", details=details, repo_id=repo_id)
            return push_folder(
                made, repo_id, token=token, private=private, revision=revision, message=commit_message, what="generator"
            )

    @property
    def encoder(self) -> AdaCLIP:
        """The text encoder."""
        return self._siblings["encoder"]

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.parameters()).device

    @property
    def steps(self) -> int:
        """How often `on_step` is called for each batch."""
        return self.sampling.steps

    @property
    def most_steps(self) -> int | None:
        """The most steps that sampling can take; None: any number."""
        return None

    @property
    def batch(self) -> int:
        """Prompts that are sampled together."""
        return self.sampling.batch

    @property
    def limits(self) -> Limits:
        """The lengths that this generator can make."""
        return Limits(self.skeleton.fps, self.unit_frames, self.max_frames, self.segments)

    def generate(
        self,
        prompts: str | Sequence[str],
        *,
        seconds: Seconds = 4.0,
        guidance: float | None = None,
        steps: int | None = None,
        scheduler: SchedulerName | None = None,
        seed: int = 0,
        num_samples: int = 1,
        batch_size: int | None = None,
        long: LongPrompts = "warn",
        output: Output = "joints",
        on_step: OnStep = lambda: None,
    ) -> list[np.ndarray]:
        """Makes motions from prompts.

        Args:
            prompts: One sentence each. With ` | `, as in "walk forward | turn left | sit", one motion of several
                segments that flow into each other, which may be longer than what the model was trained on; only in
                families that have segments.
            seconds: Length of each motion, or of each segment; or one for each prompt, each of which may be one for
                each of its segments. Rounded down to whole units of frames.
            guidance: Weight of the prompt (classifier-free guidance); None, here and below: that of `sampling`.
            steps: Steps or rounds of sampling.
            scheduler: ddpm, ddim or dpm++, in families that diffuse.
            seed: Sample s of prompt i draws from (seed, i, s) alone.
            num_samples: Motions for each prompt.
            batch_size: Segments that are sampled together.
            long: What happens to a text over the encoder's limit, as in `AdaCLIP.encode`.
            output: "joints", or "features" for de-normalised features (T, D).
            on_step: Called after every step of every batch.

        Returns:
            Joints (T, J, 3) of each motion: metres, Y up, at the skeleton's frame rate. The list is flat: all samples
            of the first prompt, then of the second.

        Raises:
            ConfigError: A value does not hold; raised before anything is computed.
            TypeError: A prompt is no string.
        """
        settings = self._options(long, output, guidance=guidance, steps=steps, scheduler=scheduler, batch=batch_size)
        draws = self._draws(requests_of(prompts, seconds, self.limits), seed, num_samples)
        return self._output(self._make(draws, settings, long=long, on_step=on_step), output)

    def edit(self, motion: np.ndarray, prompt: str, keep: Keep, **options: Any) -> list[np.ndarray]:
        """Keeps a part of a motion and makes the rest to fit it and the prompt, in families that can.

        Raises:
            ConfigError: This family cannot edit.
        """
        raise ConfigError(
            f"A generator of the family {self.family} ({self.title}) cannot edit motions. Give one of the family mdm."
        )

    def generate_features(
        self,
        prompts: Sequence[str],
        lengths: Sequence[int],
        *,
        seed: int | Sequence[int] = 0,
        on_step: OnStep = lambda: None,
    ) -> list[np.ndarray]:
        """Makes motions of given lengths, as evaluations need them.

        Args:
            prompts: Taken as they are: captions of a data set have no segments.
            lengths: Frames of each motion, multiples of unit_frames.
            seed: The noise of item i is seeded with (seed, i).
            on_step: Called after every step of every batch.

        Returns:
            De-normalised features (T_i, D) of T_i = lengths[i] frames for each prompt.
        """
        seeds = [seed] if isinstance(seed, int) else seed
        draws = [
            Draw(Request((prompt,), (int(frames),)), (*seeds, i))
            for i, (prompt, frames) in enumerate(zip(prompts, lengths, strict=True))
        ]
        return self._make(draws, self.sampling, on_step=on_step)

    @torch.no_grad()
    def _make(
        self,
        draws: Sequence[Draw],
        settings: Any,
        *,
        long: LongPrompts = "warn",
        on_step: OnStep = lambda: None,
        **options: Any,
    ) -> list[np.ndarray]:
        """De-normalised features (T_i, D) of each draw; each text is encoded once. options: of `_sample`."""
        place = {text: i for i, text in enumerate(dict.fromkeys(t for draw in draws for t in draw.request.texts))}
        text, device = self._text_of(list(place), long), self.device
        mean, std = self.mean.cpu(), self.std.cpu()
        motions: list[np.ndarray] = [np.empty(0)] * len(draws)
        for rows in batches(draws, settings.batch):
            own = [draws[row] for row in rows]
            needed = torch.tensor([place[t] for draw in own for t in draw.request.texts], device=device)
            batch = Batch.of(own, TextFeatures(*(part[needed] for part in text)))
            x = self._graphs.sample(self, batch, settings, on_step, **options).float().cpu() * std + mean
            for row, motion in zip(rows, x, strict=True):
                motions[row] = motion[: draws[row].frames].numpy()
        if not all(np.isfinite(motion).all() for motion in motions):
            raise ConfigError(
                f"guidance {settings.guidance:g} makes the motion overflow: lower it; 1 to 10 is usual. If it does so "
                "at any guidance, the model's training diverged."
            )
        return motions

    def _text_of(self, texts: list[str], long: LongPrompts = "warn") -> TextFeatures:
        """The encoder's features of texts, on the networks' device and in their precision."""
        # The last digits of an encoded prompt depend on the batch that it was in: motions must not depend on the calls
        # before, or an evaluation that was killed would not end in the same figures.
        self.encoder.cache.clear()
        text = self.encoder.encode(texts, output="both", long=long, convert_to_tensor=True)
        weight = next(self.parameters())
        return TextFeatures(text.pooled.to(weight), text.tokens.to(weight), text.mask.to(weight.device))

    def _options(self, long: LongPrompts, output: Output, **given: Any) -> Any:
        """The sampling settings of a call: those given, the others from `sampling`. ConfigError for a wrong one."""
        for name, value, choices in (("output", output, Output), ("long", long, LongPrompts)):
            if value not in get_args(choices):
                raise ConfigError(f"{name} must be one of {', '.join(get_args(choices))}, got {value!r}.")
        given = {name: value for name, value in given.items() if value is not None}
        for name in given:
            if not hasattr(self.sampling, name):
                raise ConfigError(f"{name}: a generator of the family {self.family} has no such setting. Leave it out.")
        try:
            settings = replace(self.sampling, **given)
        except ConfigError as error:  # it names the fields of a configuration; the caller uses arguments
            message = str(error).removeprefix("sampling.")
            raise ConfigError(re.sub(r"^batch\b", "batch_size", message)) from None
        if self.most_steps is not None and settings.steps > self.most_steps:
            raise ConfigError(
                f"steps must lie between 1 and the {self.most_steps} of the training, got {settings.steps}."
            )
        return settings

    def _draws(self, wanted: Sequence[Request], seed: int, num_samples: int) -> list[Draw]:
        seed, samples = check_count("seed", seed, 0), check_count("num_samples", num_samples, 1)
        # The first sample has no number of its own: it is the one motion of a call for a single sample.
        return [
            Draw(request, (seed, i, s) if s else (seed, i)) for i, request in enumerate(wanted) for s in range(samples)
        ]

    def _output(self, vectors: list[np.ndarray], output: Output) -> list[np.ndarray]:
        if output == "features":
            return vectors
        return [motion_features.decode(v) / self.skeleton.units_per_metre for v in vectors]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # `to`, `cpu` and `cuda` arrive here; the encoder moves along.
        self.encoder._apply(fn, recurse)
        return super()._apply(fn, recurse)
