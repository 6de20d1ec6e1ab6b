"""The model card that goes with every adapter."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_UNNAMED = "path/or/hub-id/of/this/adapter"

_CARD = """\
---
{metadata}---

# AdaCLIP

A LoRA adapter (rank {rank}, alpha {alpha}) for the text encoder of {base}, trained with motion quality feedback
while a text-to-motion diffusion model learnt (AdaQF). It encodes prompts for motion: speed, count, order, side.
{training}
## Use

With this project's package:

```python
from adaclip import AdaCLIP

encoder = AdaCLIP.from_pretrained({arguments})
vectors = encoder.encode(["a person slowly walks backwards"])
```

With plain peft:

```python
from peft import PeftModel
from transformers import CLIPTextModelWithProjection

base = CLIPTextModelWithProjection.from_pretrained({base_arguments})
model = PeftModel.from_pretrained(base, {arguments})
```

With plain transformers:

```python
from transformers import CLIPTextModelWithProjection

model = CLIPTextModelWithProjection.from_pretrained({base_arguments})
model.load_adapter({transformers_arguments})
```

In the place of the CLIP that another program loads, without changes to its code:

```sh
adaclip-run --weights {name} path/to/script.py ...
```

Prompts are cleaned as OpenAI's CLIP does (`adaclip.text.clean`); the package does it by itself, plain peft and
transformers do not. A generator must be trained with the encoder it is used with.
{note}{more}
## Licence

{licence}
"""


@dataclass(frozen=True)
class CardDetails:
    """What nobody can tell from the weights: given when an adapter is saved or pushed, kept with it."""

    license: str | None = None  # the Hub's identifier, such as "cc-by-nc-4.0"
    datasets: tuple[str, ...] = ()  # what it was trained on
    metrics: Mapping[str, float] = field(default_factory=dict)  # measured on the first data set, such as {"fid": 0.1}
    more: str = ""  # Markdown before the licence: sections of how it was made, and what else there is to say
    terms: str = ""  # of the data, a sentence or two for the licence section

    def __post_init__(self) -> None:
        if isinstance(self.datasets, str) or not all(isinstance(name, str) for name in self.datasets):
            raise TypeError(f"datasets must be names, got {self.datasets!r}.")
        if not all(isinstance(name, str) and isinstance(value, int | float) for name, value in self.metrics.items()):
            raise TypeError(f"metrics must be numbers by name, got {self.metrics!r}.")

    def training(self) -> str:
        """Data sets and metrics as Markdown for a card; empty when neither is known."""
        trained = f"\nTrained on: {', '.join(self.datasets)}.\n" if self.datasets else ""
        figures = "".join(f"| {metric} | {value:g} |\n" for metric, value in self.metrics.items())
        return trained + (f"\n| metric | value |\n|---|---|\n{figures}" if figures else "")

    def as_dict(self) -> dict[str, object]:
        stated = {"license": self.license, "datasets": list(self.datasets), "metrics": dict(self.metrics)}
        return stated | {name: getattr(self, name) for name in ("more", "terms") if getattr(self, name)}

    @classmethod
    def from_dict(cls, content: Mapping) -> CardDetails:
        texts = {name: str(content.get(name) or "") for name in ("more", "terms")}
        return cls(content.get("license"), tuple(content.get("datasets") or ()), content.get("metrics") or {}, **texts)


def model_card(
    config: Mapping[str, object], details: CardDetails | None = None, name: str = _UNNAMED, subfolder: str = ""
) -> str:
    """README.md of an adapter with that adapter_config.json.

    name, subfolder: the Hub repository it can be loaded from, and where in it.
    """
    details = details or CardDetails()
    base = str(config["base_model_name_or_path"])
    local = base.startswith(".")
    travels = local and not base.startswith("..")
    base_arguments = f'"{base}"'
    if travels:
        inside = "/".join(filter(None, (subfolder, base.removeprefix("./"))))
        base_arguments = f'"{_UNNAMED}/{inside}"' if name == _UNNAMED else f'"{name}", subfolder="{inside}"'
    notes = {
        (True, True): f"\nThe base is a small model of its own and travels with the adapter, in `{base}`.\n",
        (True, False): "\nThe base is a local model: its path is relative to this folder and both move together.\n",
    }
    inherited = "The adapter inherits the licence terms of its base and of the motion data it was trained on."
    return _CARD.format(
        metadata=_metadata(base, local, details),
        rank=config["r"],
        alpha=config["lora_alpha"],
        base="a local model" if local else f"[`{base}`](https://huggingface.co/{base})",
        base_arguments=base_arguments,
        arguments=f'"{name}"' + (f', subfolder="{subfolder}"' if subfolder else ""),
        transformers_arguments=f'"{name}"' + (f', adapter_kwargs={{"subfolder": "{subfolder}"}}' if subfolder else ""),
        training=details.training(),
        name=name,
        note=notes.get((local, travels), ""),
        more=f"\n{details.more.strip()}\n" if details.more else "",
        licence=" ".join(filter(None, (details.license and f"{details.license}.", inherited, details.terms))),
    )


def _metadata(base: str, local: bool, details: CardDetails) -> str:
    content: dict[str, object] = {} if local else {"base_model": base, "base_model_relation": "adapter"}
    content |= {"library_name": "peft", "pipeline_tag": "feature-extraction"}
    return yaml_header(content, ("adaclip", "lora", "text-to-motion", "clip"), details, "AdaCLIP")


def yaml_header(content: Mapping[str, object], tags: Sequence[str], details: CardDetails, model: str) -> str:
    """A card's YAML header; every value is written as JSON, which is YAML too and needs no further escaping.

    content: the fields of the kind of model; tags, licence, data sets and metrics of the model of that name follow.
    """
    content = {**content, "tags": list(tags)}
    if details.license:
        content["license"] = details.license
    if details.datasets:
        content["datasets"] = list(details.datasets)
    if details.metrics:
        dataset = details.datasets[0] if details.datasets else "unnamed"
        result = {
            "task": {"type": "text-to-motion"},
            "dataset": {"name": dataset, "type": dataset},
            "metrics": [{"type": metric, "value": value} for metric, value in details.metrics.items()],
        }
        content["model-index"] = [{"name": model, "results": [result]}]
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in content.items())
