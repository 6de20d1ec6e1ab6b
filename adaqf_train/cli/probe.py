"""The verb that tests the feedback's judge before generators are trained with it: probe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from adaqf_train.cli.scores import OfRun
from adaqf_train.errors import RunError


@dataclass(frozen=True, kw_only=True)
class ProbeVerb(OfRun):
    """Test whether a motion that the feedback's judge scores higher is also better.

    A run's generator makes motions, and one step along the gradient of the judge's cosine to their captions changes
    them. The independent evaluator measures whether they match their captions better, and jerk whether they shake.
    Exit code 3: the judge does not pass.
    """

    arm: Literal["baseline", "adaqf"] = "baseline"  # Generator whose motions are changed.
    samples: int = 256  # Motions.

    def __call__(self) -> int:
        from dataclasses import replace

        from adaqf_train.evaluation import protocol
        from adaqf_train.evaluation.probe import probe
        from adaqf_train.generators.base import MotionGenerator

        with self.scoring() as scoring:
            if scoring is None:
                return 0
            judges = scoring.judges
            if judges.extractors is None:
                raise RunError(f"{self.run}: has no extractors. Run: adaqf extractors with this run's options.")
            config = replace(scoring.config.evaluation, protocol="full", max_samples=self.samples)
            drawn = protocol.draw(scoring.dataset, config, 0)
            generator = MotionGenerator.from_pretrained(scoring.run.verified(self.arm), device=scoring.device)
            generator.sampling = scoring.config.sampling
            motions = generator.generate_features(drawn.captions, drawn.lengths, seed=config.seed)
            found = probe(judges.extractors, judges.evaluator, drawn.captions, motions, scoring.dataset.skeleton)
            print("\n".join(found.lines()))
            return 0 if found.passes else 3
