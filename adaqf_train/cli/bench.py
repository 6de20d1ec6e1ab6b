"""The verb that measures the speed of this machine: bench."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adaqf_train.errors import ConfigError


@dataclass(frozen=True)
class Bench:
    """Time AdaQF's training step, sampling and encoding on this machine.

    Needs no weights, no data and no network. On a GPU it takes a few minutes.
    """

    size: Literal["mdm", "pocket"] | None = None
    """MDM's size with ViT-B/32's text tower, or the pocket recipe; None: mdm on a GPU, pocket on a CPU."""
    mdm: Path | None = None
    """Checkout of GuyTevet/motion-diffusion-model, whose own training step and sampling are timed as well."""
    out: Path | None = None
    """JSON file for all figures."""

    def __call__(self) -> None:
        import torch
        from rich.console import Console

        from adaclip.files import write_json
        from adaqf_train.runs import bench

        if self.mdm is not None and not (self.mdm / "model" / "mdm.py").is_file():
            raise ConfigError(f"--mdm {self.mdm}: not a checkout of MDM, which has model/mdm.py.")
        on_gpu, console = torch.cuda.is_available(), Console()
        size = self.size or ("mdm" if on_gpu else "pocket")
        about, rows = bench.machine() | {"size": f"{size} size"}, []
        with console.status("") as status:
            for name, measure in bench.parts(bench.settings(size), self.mdm, on_gpu=on_gpu).items():
                status.update(f"{name} …")
                rows += measure()
        bench.show(rows, about, console)
        if self.out is not None:
            write_json(self.out, {"machine": about, "rows": rows})
