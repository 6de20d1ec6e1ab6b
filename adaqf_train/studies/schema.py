"""What a study is made of: arms, sources of text encoders, and claims."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from adaqf_train.studies.metrics import GENERATION


@dataclass(frozen=True)
class Source:
    """The origin of a text encoder that stays frozen while a generator is trained."""

    kind: Literal["base", "adaclip", "moclip"]
    settings: tuple[str, ...] = ()  # settings of the training that an AdaCLIP comes from
    other_data: bool = False  # trained on the study's other data set


@dataclass(frozen=True)
class Arm:
    """One way of training.

    Settings are written as for `--set`, or as a factor of the recipe's value: "feedback.motion*=3".
    """

    title: str
    settings: tuple[str, ...] = ()
    kind: str = "mdm"  # what is trained and scored: a generator, by its family's name, "extractors", or "encoder"
    encoder: Source | None = None  # None: the encoder is trained together with MDM's generator, or frozen by `settings`
    against: str | None = None  # arm that differences are taken to; None: the study's reference


@dataclass(frozen=True)
class Claim:
    """A claim of the paper as a comparison that a table can decide: `arm` is better than `than` on `metric`.

    With a `share` the claim is about speed: on val, `arm` reaches the best value of `than` within this share of the
    steps that `than` needs. A `way` sets another goal for both: that share of the way from the first point of `than` to
    the real motions' figure. With `along` it is about the curves over guidance: "fid" at the same R@3, "precision"
    (R@3) at the same FID, or the "area" between them.
    """

    text: str
    metric: str
    arm: str
    than: str
    share: float | None = None
    way: float | None = None
    along: Literal["fid", "precision", "area"] | None = None


@dataclass(frozen=True)
class Study:
    """Arms that differ in one thing, and the claims that they test."""

    name: str
    title: str
    paper: str  # the paper's tables and figures that it reruns
    arms: dict[str, Arm]
    claims: tuple[Claim, ...] = ()
    reference: str = ""  # arm that differences are taken to; by default the first
    seeds: int = 3  # training seeds that a verdict needs
    metrics: tuple[str, ...] = GENERATION  # columns of its tables, from `metrics.METRICS`
    settings: tuple[str, ...] = ()  # of every arm, unless the command line says otherwise
    may_coincide: bool = False  # titles state values, so that an arm may repeat what the recipe has already
    note: str = (
        "Figures are on the test split, by the independent evaluator. Curves of the training are on val; those of "
        "masked tokens show the base level alone."
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "reference", self.reference or next(iter(self.arms)))

    @property
    def tables(self) -> list[int]:
        """The paper's tables that the page repeats."""
        return [int(number) for number in re.findall(r"Table (\d+)", self.paper)]

    def against(self, arm: str) -> str:
        """The arm that this one's differences are taken to; itself if there is none."""
        return self.arms[arm].against or self.reference
