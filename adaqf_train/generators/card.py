"""The model card that goes with every generator."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from adaclip.card import CardDetails, yaml_header

if TYPE_CHECKING:
    from adaqf_train.generators.base import MotionGenerator

_UNNAMED = "path/or/hub-id/of/this/generator"
_CARD = Path(__file__).with_name("card_template.md").read_text(encoding="utf-8")
_LONGER = 'longer = generator.generate("a person walks forward | a person turns left", seconds={example:g})[0]\n'


def generator_card(generator: MotionGenerator, details: CardDetails, repo_id: str | None = None) -> str:
    """README.md of a generator; repo_id: the Hub repository that it can be loaded from."""
    base, skeleton, limits = str(generator.encoder.base), generator.skeleton, generator.limits
    own = generator.own_base  # base/ then holds what became of the base
    local = own or Path(base).exists()
    longest = limits.longest(segment=False)
    example = min(4.0, longest)
    header = {} if Path(base).exists() else {"base_model": base}
    tags = ("text-to-motion", "motion-generation", generator.method, "adaclip")
    inherited = "The generator inherits the licence terms of its base and of the motion data it was trained on."
    where = repo_id or _UNNAMED
    return _CARD.format(
        metadata=yaml_header({**header, "library_name": "adaclip"}, tags, details, "AdaQF"),
        family=generator.family,
        title=generator.title,
        joints=len(skeleton),
        fps=skeleton.fps,
        shortest=limits.unit_frames / skeleton.fps,
        longest=longest,
        in_segments=" in one piece, longer in segments" if generator.segments else "",
        example=example,
        longer=_LONGER.format(example=example) if generator.segments else "",
        encoder=("the text encoder in `base/`" if local else f"`{base}`") + ("" if own else " and an adapter"),
        training=details.training(),
        name=where,
        encoder_arguments=f'"{where}", subfolder="encoder"' if repo_id else f'"{where}/encoder"',
        sampling=", ".join(f"{name} {value}" for name, value in asdict(generator.sampling).items()),
        base_files=", `base/` (the text encoder)" if local else "",
        licence=" ".join(filter(None, (f"{details.license}." if details.license else "", inherited, details.terms))),
    )
