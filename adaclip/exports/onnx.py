"""The encoder as an ONNX graph, compared with the original before the file appears."""

from __future__ import annotations

import copy
import importlib.util
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from adaclip.config import AdaCLIPError
from adaclip.exports.towers import export_record, free_file
from adaclip.files import atomic_file
from adaclip.model import AdaCLIP
from adaclip.openai_clip import TextTower
from adaclip.pooling import end_positions

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4  # largest permitted difference in a float32 output; kernels sum in another order
# Prompts for the comparison: another batch size and length than the graph was traced with.
CHECKED = ["a person walks", "a person turns to the left twice, waves and then slowly walks back", ""]
CHECKED += ["a person walks <|endoftext|> back"]  # pooled at the first end token, as `forward` does


class _Graph(nn.Module):
    """`AdaCLIP.forward` in operations that ONNX has."""

    def __init__(self, encoder: AdaCLIP) -> None:
        super().__init__()
        self.tower = TextTower(encoder)
        self.eos_token_id = encoder.eos_token_id

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        states = self.tower.hidden_states(input_ids)
        ends = end_positions(input_ids, attention_mask.bool(), self.eos_token_id)
        B, _ = input_ids.shape  # len() would fix the batch size in the graph
        pooled = states[torch.arange(B), ends] @ self.tower.text_projection
        return pooled, states * attention_mask[..., None].to(states.dtype)


def to_onnx(adaclip: AdaCLIP, path: str | Path) -> Path:
    """Write an ONNX model: input_ids, attention_mask (B, L) int64 -> pooled (B, P), tokens (B, L, H), float32.

    B and L (up to the context length) are dynamic; the outputs are those of `AdaCLIP.forward`.

    Args:
        adaclip: The encoder.
        path: File to write; it appears after ONNX Runtime has reproduced the encoder's outputs.

    Returns:
        The path.

    Raises:
        AdaCLIPError: The extra `onnx` is not installed, or the outputs differ.
    """
    path = free_file(Path(path))
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        raise AdaCLIPError(f"The ONNX export needs {', '.join(absent)}: pip install 'adaclip[onnx]'.")
    encoder = copy.deepcopy(adaclip).cpu().float().eval()  # merged in float32, and outside any training
    graph = _Graph(encoder).eval()
    ids, mask = torch.zeros(2, 9, dtype=torch.long), torch.ones(2, 9, dtype=torch.long)
    dynamic = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=graph.tower.context_length)}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's errors are exceptions
        program = torch.onnx.export(
            graph,
            (ids, mask),
            input_names=["input_ids", "attention_mask"],
            output_names=["pooled", "tokens"],
            dynamic_shapes={"input_ids": dynamic, "attention_mask": dynamic},
            dynamo=True,
            verbose=False,
        )
    record = export_record(adaclip, "onnx", "none in this file")
    program.model.metadata_props.update({f"adaclip.{key}": value for key, value in record.items()})
    with atomic_file(path) as staging:
        program.save(str(staging), external_data=False)  # one file; CLIP's text towers are far below the limit of 2 GB
        _compare(encoder, staging)
    return path


def _compare(encoder: AdaCLIP, path: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    ids, mask = encoder.tokenize(CHECKED)
    with torch.no_grad():
        expected = encoder(ids, mask)
    feed = {"input_ids": ids.numpy(), "attention_mask": mask.long().numpy()}
    for name, ours, theirs in zip(("pooled", "tokens"), expected, session.run(None, feed), strict=False):
        difference = (ours - torch.from_numpy(theirs)).abs().max().item()
        if not difference <= TOLERANCE:  # so that NaN differs
            raise AdaCLIPError(
                f"The ONNX graph's {name} differ from the encoder's by {difference:.2g} (allowed: {TOLERANCE:g}), so "
                "nothing was written. Please report this with the versions of torch and onnxruntime."
            )
