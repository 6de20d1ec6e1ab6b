"""What a trial is: its settings, its key and name, and what has changed since its result was stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any

from adaqf_train.config import POCKET_BASE, EvaluationConfig, RunConfig, digest, override, recipes
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.data.official import locate
from adaqf_train.data.prepare.procedural_sets import is_procedural
from adaqf_train.errors import ConfigError
from adaqf_train.evaluation.manifest import hash_of_weights
from adaqf_train.runs.settings import changes
from adaqf_train.studies.schema import Arm, Source

WITHOUT_CURVES = {name: getattr(EvaluationConfig(), name) for name in ("guidances", "choose", "curve_replications")}
PROCEDURAL = "evaluation.procedural_"  # settings of the procedural sets that a data set is evaluated on
FACTOR = "*="  # "feedback.motion*=3": three times the recipe's value


@dataclass(frozen=True)
class Trial:
    """One training run: everything that it depends on and nothing else, so that studies share runs."""

    data: str  # label of the data set
    recipe: str
    settings: tuple[str, ...]  # on top of the recipe, in the order in which they apply
    seed: int
    generator: str = "mdm"  # or another `Arm.kind`
    encoder: str | None = None  # frozen encoder: "base", or the key of the training that it comes from

    @property
    def key(self) -> str:
        """Key of the trials that differ only in their seed."""
        return f"{self.data}-{self.generator}-{digest(asdict(self) | {'seed': None})[:8]}"

    @property
    def name(self) -> str:
        """Name of the result file and of the run folder."""
        return f"{self.key}-seed{self.seed}"


@dataclass(frozen=True)
class Setup:
    """What the trials of a study have in common; with an arm and a seed it defines a trial."""

    recipe: str
    config: RunConfig  # of the recipe, with the settings that hold for every arm
    families: Any  # likewise; as `families_of` gives them
    settings: tuple[str, ...]  # those settings, as `--set` takes them
    data: Mapping[str, Path]  # label -> folder
    base: Path | None = None  # a text encoder in the place of the recipe's

    @property
    def base_key(self) -> str:
        """What the base is: a hash of its weights, or the recipe's name for it."""
        return hash_of_base(self.base) if self.base else self.config.encoder.base

    def at(self, label: str) -> Setup:
        """The same with the configuration of one data set.

        Further motions to evaluate on can be made only for procedural data sets. Others are evaluated on their own test
        split, so the recipe's values take the place of settings of such motions.
        """
        if self.procedural(label):
            return self
        plain = {
            name: value
            for name, value in asdict(recipes.load(self.recipe).evaluation).items()
            if f"evaluation.{name}".startswith(PROCEDURAL)
        }
        return replace(self, config=replace(self.config, evaluation=replace(self.config.evaluation, **plain)))

    def procedural(self, label: str) -> bool:
        """Whether a data set consists of procedural motions."""
        return is_procedural(self.data[label])

    def trial(self, label: str, arm: Arm, seed: int) -> Trial:
        base = (f"base={self.base_key[:16]}",) if self.base else ()
        procedural = self.procedural(label)
        own = (setting for setting in self.settings if procedural or not setting.startswith(PROCEDURAL))
        encoder = self.source_key(label, arm.encoder) if arm.encoder else None
        return Trial(label, self.recipe, (*base, *own, *self.resolved(arm)), seed, arm.kind, encoder)

    def resolved(self, arm: Arm) -> tuple[str, ...]:
        """The settings of an arm, with every factor replaced by the value that it gives under this recipe."""
        found = []
        for setting in arm.settings:
            name, times, factor = setting.partition(FACTOR)
            value = attrgetter(name)(self.config) if times else None
            if times and not value:
                raise ConfigError(
                    f"{setting}: {name} is {value} for all arms, and a factor does not change it. Set {name}."
                )
            found.append(f"{name}={value * float(factor):.12g}" if times else setting)
        return tuple(found)

    def arm_config(self, arm: Arm, seed: int) -> RunConfig:
        config = override(self.config, [*self.resolved(arm), f"training.seed={seed}"])
        if arm.kind == "extractors" and seed:
            config = replace(config, extractors=replace(config.extractors, seed=config.extractors.seed + 100 * seed))
        return config

    def check_arms(self, arms: Mapping[str, Arm]) -> None:
        """Refuse a recipe under which two arms are the same training, because it has already what one of them sets.

        Their titles would promise a difference that does not exist.
        """
        seen: dict[tuple, Arm] = {}
        for arm in arms.values():
            same = seen.setdefault((digest(asdict(self.arm_config(arm, 0))), arm.kind, arm.encoder), arm)
            if same is not arm:
                raise ConfigError(
                    f"Under these settings {arm.title!r} and {same.title!r} are the same training: the recipe "
                    f"{self.recipe} has {', '.join(self.resolved(arm) or self.resolved(same))} already. Choose another "
                    "recipe, drop the --set, or name the arms to run with --arms."
                )

    def changes(self, arm: Arm, seed: int, manifest: Mapping[str, object]) -> str:
        """What has changed since a result was stored; "" if nothing that counts (`runs.settings.changes`).

        Results of a version without curves over guidance stay readable: `StudyRunner` sees that they are not mixed with
        others.
        """
        config = self.arm_config(arm, seed)
        if "guidances" not in manifest["config"]["evaluation"]:
            config = replace(config, evaluation=replace(config.evaluation, **WITHOUT_CURVES))
        if "joint_evaluator" not in manifest["config"]:  # of a version with one evaluator; its figures stand
            config = replace(config, joint_evaluator=RunConfig().joint_evaluator)
        found = [changes(manifest["config"], config, "config.")]
        if arm.encoder is not None and arm.kind != "encoder" and "families" in manifest:
            found.append(changes(manifest["families"], self.families, "families."))
        return ", ".join(filter(None, found))

    def source_key(self, label: str, source: Source) -> str:
        """The key of the training of an encoder, whatever its seed."""
        if source.kind == "base":
            return "base"
        key = self.trial(self.source_data(label, source), Arm("", source.settings), 0).key
        return key if source.kind == "adaclip" else f"moclip-{key}"

    def source_data(self, label: str, source: Source) -> str:
        """Label of the data set that an encoder is trained on; ConfigError if the study has no other one to share."""
        if not source.other_data:
            return label
        if self.base is None and self.config.encoder.base == POCKET_BASE:
            raise ConfigError(
                "An encoder of another data set needs a base that both share, and a pocket recipe trains one for each. "
                "Give --base (adaqf prepare merged and adaqf base make one)."
            )
        others = [name for name in self.data if name != label]
        if len(others) != 1:
            raise ConfigError(
                f"An encoder of another data set needs two data sets, got {', '.join(self.data)}. Give --data twice."
            )
        return others[0]

    def fingerprint(self, label: str, split: str) -> str:
        return _fingerprint(self.data[label], split, self.config.data)


@cache
def hash_of_base(folder: Path) -> str:
    """SHA-256 of the weights of a text model."""
    if not any(folder.glob("*.safetensors")):
        raise ConfigError(f"--base {folder}: has no *.safetensors. Give the folder of a text encoder.")
    return hash_of_weights(folder)


@cache
def _fingerprint(folder: Path, split: str, config: object) -> str:
    return MotionDataset(locate(folder), split, config).fingerprint()
