"""The procedural sets that an evaluation scores on, and judges that embed their reference once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from adaqf_train.config import RunConfig, digest
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.data.prepare.procedural_sets import SetSizes, procedural_sets
from adaqf_train.evaluation import protocol
from adaqf_train.evaluation.embedder import Embedder, Judges
from adaqf_train.evaluation.protocol import RealSets

HELD_OUT_SHARE = 4  # a quarter as many held-out combinations as test clips


@dataclass(frozen=True)
class EvaluationSets:
    """Procedural sets, ready to score on."""

    test: MotionDataset
    val: MotionDataset
    real: RealSets
    fingerprint: str  # of `real`
    counts: dict[str, int]

    @classmethod
    def make(cls, config: RunConfig, data: Path) -> EvaluationSets | None:
        """The sets that a configuration asks for, made unless they are there; None if it asks for none."""
        evaluation = config.evaluation
        if evaluation.procedural_test is None:
            return None
        held_out = max(evaluation.procedural_test // HELD_OUT_SHARE, evaluation.pool)
        sizes = SetSizes(
            evaluation.procedural_test, evaluation.procedural_reference, held_out, evaluation.procedural_val
        )
        folder, own = procedural_sets(data, sizes), replace(config.data, samples=None)
        found = {name: MotionDataset(folder, name, own) for name in vars(sizes)}
        reference = protocol.draw(found["reference"], evaluation, protocol.REFERENCE_REPLICATIONS, whole=True).motions
        fingerprint = digest([found[name].fingerprint() for name in ("reference", "held_out")])
        return cls(found["test"], found["val"], RealSets(reference, found["held_out"]), fingerprint, dict(vars(sizes)))

    def knowing(self, judges: Judges) -> Judges:
        """The same judges, which embed the reference once."""
        given = {f.name: getattr(judges, f.name) for f in fields(judges)}
        wrapped = {n: KnownReference(j, self.real.reference) for n, j in given.items() if hasattr(j, "embed_motions")}
        return replace(judges, **wrapped)


class KnownReference:
    """A judge that embeds one list of motions once, and is otherwise the judge that it wraps."""

    def __init__(self, judge: Embedder, reference: Sequence[np.ndarray]) -> None:
        self._judge, self._reference = judge, reference
        self._known: np.ndarray | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._judge, name)

    def embed_motions(self, motions: Sequence[np.ndarray]) -> np.ndarray:
        """Embed motions (`Embedder`); the reference's embeddings are kept."""
        if motions is not self._reference:
            return self._judge.embed_motions(motions)
        if self._known is None:
            self._known = self._judge.embed_motions(motions)
        return self._known
