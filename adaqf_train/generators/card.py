"""The model card that goes with every generator."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from adaclip.card import CardDetails, yaml_header
from adaqf_train.motion.skeleton import skeleton_of_width

_UNNAMED = "path/or/hub-id/of/this/generator"

_CARD = """\
---
{metadata}---

# Text-to-motion generator

A diffusion model that makes human motion from a sentence: {joints} joints at {fps:g} frames a second, {shortest:g} to
{longest:g} seconds in one piece, longer in segments. It reads prompts with {encoder}.
{training}
## Use

```python
from adaqf_train.models.generator import MotionGenerator

generator = MotionGenerator.from_pretrained("{name}")
joints = generator.generate(["a person waves twice"], seconds={example:g}, seed=0)[0]  # (T, {joints}, 3), metres
longer = generator.generate("a person walks forward | a person turns left", seconds={example:g})[0]
```

The text encoder alone, in the folder `encoder`, is a PEFT adapter:

```python
from adaclip import AdaCLIP

encoder = AdaCLIP.from_pretrained({encoder_arguments})
```

By default it samples with {scheduler} in {steps} steps at guidance {guidance:g}; `generate` takes others.

## Files

`denoiser.safetensors`, `statistics.safetensors` (mean and standard deviation of the features), `config.json`,
`encoder/` (the adapter){base_files}.

## Licence

{licence}
"""


def generator_card(config: Mapping, base: str, details: CardDetails, name: str | None = None) -> str:
    """README.md of a generator with that config.json; base: Hub id or folder of the encoder's base.

    name: the Hub repository it can be loaded from.
    """
    local = Path(base).is_dir()
    skeleton = skeleton_of_width(config["features"])
    unit = config["unit_frames"]
    longest = (config["max_frames"] - 1) // unit * unit / skeleton.fps
    header = {} if local else {"base_model": base}
    tags = ("text-to-motion", "motion-generation", "diffusion", "adaclip")
    inherited = "The generator inherits the licence terms of its base and of the motion data it was trained on."
    where = name or _UNNAMED
    return _CARD.format(
        metadata=yaml_header({**header, "library_name": "adaclip"}, tags, details, "AdaQF"),
        joints=len(skeleton),
        fps=skeleton.fps,
        shortest=unit / skeleton.fps,
        longest=longest,
        example=min(4.0, longest),
        encoder="a small CLIP of its own and an adapter" if local else f"`{base}` and an adapter",
        training=details.training(),
        name=where,
        encoder_arguments=f'"{where}", subfolder="encoder"' if name else f'"{where}/encoder"',
        **{key: config["sampling"][key] for key in ("scheduler", "steps", "guidance")},
        base_files=", `base/` (the CLIP text model that it adapts)" if local else "",
        licence=f"{details.license}. {inherited}" if details.license else inherited,
    )
