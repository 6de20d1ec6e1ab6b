"""The model card that goes with every adapter."""

from __future__ import annotations

from collections.abc import Mapping

_CARD = """\
---
{metadata}---

# AdaCLIP

A LoRA adapter (rank {rank}, alpha {alpha}) for the text encoder of `{base}`, trained with motion quality feedback
while a text-to-motion diffusion model learnt (AdaQF). It encodes prompts for motion: speed, count, order, side.

With this project's package:

```python
from adaclip import AdaCLIP

encoder = AdaCLIP.from_pretrained("path/or/hub-id/of/this/adapter")
vectors = encoder.encode(["a person slowly walks backwards"])
```

With plain peft and transformers:

```python
from peft import PeftModel
from transformers import CLIPTextModelWithProjection

base = CLIPTextModelWithProjection.from_pretrained("{base}")
model = PeftModel.from_pretrained(base, "path/or/hub-id/of/this/adapter")
```
{note}
The adapter inherits the licence terms of its base and of the motion data it was trained on.
"""

_LOCAL_NOTE = """
The base is a local model: its path is relative to this folder and both must be moved together.
"""


def model_card(config: Mapping[str, object]) -> str:
    """README.md of an adapter with that adapter_config.json."""
    base = str(config["base_model_name_or_path"])
    local = base.startswith(".")
    metadata = ["library_name: peft", "tags:", "- adaclip", "- lora", "- text-to-motion", "- clip"]
    if not local:
        metadata = [f"base_model: {base}", "base_model_relation: adapter", *metadata]
    return _CARD.format(
        metadata="".join(f"{line}\n" for line in metadata),
        rank=config["r"],
        alpha=config["lora_alpha"],
        base=base,
        note=_LOCAL_NOTE if local else "",
    )
