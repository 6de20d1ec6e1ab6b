"""The model card that goes with every adapter."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from adaclip.towers import CLIP, Tower, tower_of_class

_UNNAMED = "path/or/hub-id/of/this/adapter"

_CLEANED = """In the place of the CLIP that another program loads, without changes to its code:

```sh
adaclip-run --weights {name} path/to/script.py ...
```

Prompts are cleaned as OpenAI's CLIP does (`adaclip.text.clean`); this package does so, plain peft and
transformers do not."""
_UNTOUCHED = "The base's tokenizer receives prompts as they are."
_CARD = Path(__file__).with_name("card_template.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class CardDetails:
    """Licence, data sets and metrics of an adapter, stored with it."""

    license: str | None = None  # the Hub's identifier, such as "cc-by-nc-4.0"
    datasets: tuple[str, ...] = ()  # data sets of the training
    metrics: Mapping[str, float] = field(default_factory=dict)  # on the first data set, such as {"fid": 0.1}
    more: str = ""  # further sections, Markdown, before the licence
    terms: str = ""  # terms of the data, for the licence section

    def __post_init__(self) -> None:
        if self.license is not None and not isinstance(self.license, str):
            raise TypeError(f"license must be a name, got {self.license!r:.60}.")
        if isinstance(self.datasets, str) or not all(isinstance(name, str) for name in self.datasets):
            raise TypeError(f"datasets must be a list of names, got {self.datasets!r:.60}.")
        if not isinstance(self.metrics, Mapping) or not all(map(_is_metric, self.metrics, self.metrics.values())):
            raise TypeError(f"metrics must be finite numbers by name, got {self.metrics!r:.60}.")

    def training(self) -> str:
        """Return data sets and metrics as Markdown; empty if there are none."""
        trained = f"\nTrained on: {', '.join(self.datasets)}.\n" if self.datasets else ""
        figures = "".join(f"| {metric} | {value:g} |\n" for metric, value in self.metrics.items())
        return trained + (f"\n| metric | value |\n|---|---|\n{figures}" if figures else "")

    def as_dict(self) -> dict[str, object]:
        return {name: value for name, value in asdict(self).items() if value or name not in ("more", "terms")}

    @classmethod
    def from_dict(cls, content: Mapping) -> CardDetails:
        texts = {name: str(content.get(name) or "") for name in ("more", "terms")}
        datasets = content.get("datasets") or ()
        if not isinstance(datasets, list | tuple):
            raise TypeError(f"datasets must be a list of names, got {datasets!r:.60}.")
        return cls(content.get("license"), tuple(datasets), content.get("metrics") or {}, **texts)


def _is_metric(name: object, value: object) -> bool:
    return isinstance(name, str) and isinstance(value, int | float) and math.isfinite(value)


def model_card(
    config: Mapping[str, object],
    details: CardDetails,
    name: str = _UNNAMED,
    subfolder: str = "",
    *,
    base_revision: str | None = None,
) -> str:
    """Return the README.md of an adapter from its adapter_config.json, for its place in a Hub repository."""
    base = str(config["base_model_name_or_path"])
    local = base.startswith(".")
    travels = local and not base.startswith("..")
    base_arguments = f'"{base}"'
    if travels:
        inside = "/".join(filter(None, (subfolder, base.removeprefix("./"))))
        base_arguments = f'"{_UNNAMED}/{inside}"' if name == _UNNAMED else f'"{name}", subfolder="{inside}"'
    note = ""
    if travels:
        note = f"\nThe base is a small model in the folder `{base}` of this adapter.\n"
    elif local:
        note = "\nThe base is a local model. Its path is relative to this folder: move both together.\n"
    header: dict[str, object] = {} if local else {"base_model": base, "base_model_relation": "adapter"}
    header |= {"library_name": "peft", "pipeline_tag": "feature-extraction"}
    model_class, tower = _model_class(config)
    inherited = "The adapter inherits the licence terms of its base and of the motion data it was trained on."
    linked = f"[`{base}`](https://huggingface.co/{base})" + (f" (commit `{base_revision}`)" if base_revision else "")
    return _CARD.format(
        metadata=yaml_header(header, ("adaclip", "lora", "text-to-motion", tower.name), details, "AdaCLIP"),
        rank=config["r"],
        alpha=config["lora_alpha"],
        base="a local model" if local else linked,
        base_arguments=base_arguments,
        arguments=f'"{name}"' + (f', subfolder="{subfolder}"' if subfolder else ""),
        transformers_arguments=f'"{name}"' + (f', adapter_kwargs={{"subfolder": "{subfolder}"}}' if subfolder else ""),
        training=details.training(),
        model_class=model_class,
        prompts=_CLEANED.format(name=name) if tower.cleans else _UNTOUCHED,
        note=note,
        more=f"\n{details.more.strip()}\n" if details.more else "",
        licence=" ".join(filter(None, (details.license and f"{details.license}.", inherited, details.terms))),
    )


def _model_class(config: Mapping[str, object]) -> tuple[str, Tower]:
    """Return the class of transformers that an adapter was made on, as peft records it, and its family."""
    mapping = config.get("auto_mapping")
    recorded = str(mapping.get("base_model_class")) if isinstance(mapping, Mapping) else ""
    tower = tower_of_class(recorded)
    return (recorded, tower) if tower is not None else ("CLIPTextModelWithProjection", CLIP)


def yaml_header(content: Mapping[str, object], tags: Sequence[str], details: CardDetails, model: str) -> str:
    """Return a card's YAML header; its values are JSON, which is valid YAML."""
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
