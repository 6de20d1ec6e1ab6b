"""The encoder as an ONNX graph, compared with the original before the file appears."""

from __future__ import annotations

import copy
import importlib.util
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from adaclip.config import AdaCLIPError
from adaclip.exports.hf import export_folder, write_tokenizer
from adaclip.exports.towers import export_record
from adaclip.files import atomic_file, write_json
from adaclip.model import AdaCLIP
from adaclip.openai_clip import TextTower
from adaclip.outputs import free_output
from adaclip.pooling import end_positions

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Precision = Literal["float32", "float16", "int8"]
Ids = Literal["int64", "int32"]

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4  # permitted difference of float32 outputs, relative to the largest; kernels sum in another order
LOST = 0.5  # cosine of a vector to the encoder's, below which a smaller precision is an error
# Prompts for the comparison: another batch size and length than the graph was traced with.
CHECKED = ["a person walks", "a person turns to the left twice, waves and then slowly walks back", ""]
CHECKED += ["a person walks <|endoftext|> back"]  # pooled at the first end token, as `forward` does
MODEL = "model.onnx"  # of a folder


class _ClipGraph(nn.Module):
    """`AdaCLIP.forward` of CLIP in operations that ONNX has."""

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


class _Graph(nn.Module):
    """`AdaCLIP.forward` of every other encoder."""

    def __init__(self, encoder: AdaCLIP) -> None:
        super().__init__()
        self.model, self.pooling = encoder.merged(), encoder.pooling

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        pooled, states = self.pooling(self.model, input_ids, attention_mask.bool())
        return pooled, states * attention_mask[..., None].to(states.dtype)


def to_onnx(
    adaclip: AdaCLIP,
    path: str | Path,
    *,
    precision: Precision = "float32",
    ids: Ids = "int64",
    force: bool = False,
) -> Path:
    """Write an ONNX model: input_ids, attention_mask (B, L) -> pooled (B, P), tokens (B, L, H), float32.

    B and L (up to the context length) are dynamic; the outputs are those of `AdaCLIP.forward`. The differences from the
    encoder's outputs are measured on a few prompts, and are in the model's metadata (`adaclip.difference…`).

    Args:
        adaclip: The encoder.
        path: File to write; it appears after ONNX Runtime has reproduced the encoder's outputs.
        precision: Of the weights. float16 computes in half precision; int8 has quantised matrices and needs no
            calibration (ONNX Runtime's dynamic quantisation).
        ids: Type of both inputs.
        force: Replace a file that is not an earlier export, or lies in a model's folder.

    Returns:
        The path.

    Raises:
        AdaCLIPError: The extra `onnx` is not installed, the outputs differ too much, or the file would be lost.
    """
    target = free_output(Path(path), force=force)
    _check_packages()
    with atomic_file(target) as staging:
        _write(adaclip, staging, precision, ids)
    return Path(path)


def to_onnx_folder(
    adaclip: AdaCLIP, folder: str | Path, *, precision: Precision = "float32", ids: Ids = "int64"
) -> Path:
    """Write a folder for use without torch: model.onnx as `to_onnx` does, its tokenizer, config.json and a README.

    config.json holds the pooling, the longest prompt, the type of the inputs, the precision and its measured
    differences from the encoder.

    Args:
        adaclip: The encoder.
        folder: Folder to write; it replaces an earlier export.
        precision: As in `to_onnx`.
        ids: As in `to_onnx`.

    Returns:
        The folder.

    Raises:
        AdaCLIPError: As in `to_onnx`; or the folder contains something else.
    """
    _check_packages()
    with export_folder(adaclip, Path(folder), "onnx-folder", "none in this folder") as staging:
        differences = _write(adaclip, staging / MODEL, precision, ids)
        write_tokenizer(adaclip, staging)
        config = adaclip.text_model.config
        facts = {
            "model_type": config.model_type,
            "hidden_size": adaclip.hidden_size,
            "projection_dim": adaclip.projection_size,
            "max_length": adaclip.tokenizer.model_max_length,
            "pad_token_id": adaclip.tokenizer.pad_token_id,
            "inputs": {"input_ids": ids, "attention_mask": ids},
            "precision": precision,
        }
        write_json(staging / "config.json", facts | {"pooling": adaclip.pooling.facts(), **differences})
    return Path(folder)


def _write(adaclip: AdaCLIP, path: Path, precision: str, ids: str) -> dict[str, float]:
    """Write and check the graph; return the measured differences."""
    if precision not in ("float32", "float16", "int8") or ids not in ("int64", "int32"):
        raise ValueError(f"precision {precision!r}, ids {ids!r}: choose float32, float16 or int8, and int64 or int32.")
    encoder = copy.deepcopy(adaclip).cpu().float().eval()  # merged in float32, and outside any training
    program = _program(encoder, torch.int32 if ids == "int32" else torch.int64)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        written = Path(scratch) / MODEL
        program.save(str(written), external_data=False)  # one file; text encoders are far below the limit of 2 GB
        with _quiet():
            _convert(written, path, precision)
    differences = _compare(encoder, path, precision, ids)
    _add_metadata(path, export_record(adaclip, "onnx", "none in this file") | {"precision": precision} | differences)
    return differences


def _program(encoder: AdaCLIP, kind: torch.dtype) -> torch.onnx.ONNXProgram:
    clip = encoder.pooling.name == "text_embeds"
    graph = (_ClipGraph if clip else _Graph)(encoder).eval()
    ids = torch.zeros(2, 9, dtype=kind)
    longest = min(encoder.tokenizer.model_max_length, 2**16)
    dynamic = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=longest)}
    with _quiet(), torch.no_grad():  # the exporter's errors are exceptions
        return torch.onnx.export(
            graph,
            (ids, torch.ones_like(ids)),
            input_names=["input_ids", "attention_mask"],
            output_names=["pooled", "tokens"],
            dynamic_shapes={"input_ids": dynamic, "attention_mask": dynamic},
            dynamo=True,
            verbose=False,
        )


def _convert(source: Path, path: Path, precision: str) -> None:
    """Write `source` in another precision as `path`."""
    import onnx

    if precision == "int8":
        from onnxruntime.quantization import QuantType, quantize_dynamic

        # Seven bits, because products of eight overflow on processors without VNNI.
        options = {"weight_type": QuantType.QInt8, "per_channel": True, "reduce_range": True}
        quantize_dynamic(source, path, op_types_to_quantize=["MatMul", "Gemm"], **options)
        return
    model = onnx.load(source)
    if precision == "float16":
        from onnxruntime.transformers.float16 import convert_float_to_float16

        model = convert_float_to_float16(model, keep_io_types=True)
    onnx.save(model, path)


def _add_metadata(path: Path, facts: dict[str, object]) -> None:
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(model, {f"adaclip.{key}": str(value) for key, value in facts.items()})
    onnx.save(model, path)


def _compare(encoder: AdaCLIP, path: Path, precision: str, ids: str) -> dict[str, float]:
    """Return the largest difference of each output, relative to its largest value, and the lowest cosine."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rows, mask = encoder.tokenize(CHECKED)
    with torch.no_grad():
        expected = encoder(rows, mask)
    found = run(session, rows, mask, ids)
    differences = {}
    for name, ours, theirs in zip(("pooled", "tokens"), expected, found, strict=False):
        difference = ((ours - theirs).abs().max() / ours.abs().max()).item()
        if not difference <= (TOLERANCE if precision == "float32" else float("inf")):  # so that NaN differs
            raise AdaCLIPError(
                f"The ONNX graph's {name} differ from the encoder's by {difference:.2g} (allowed: {TOLERANCE:g}), so "
                "nothing was written. Please report this with the versions of torch and onnxruntime."
            )
        differences[f"difference_{name}"] = float(f"{difference:.3g}")
    cosine = nn.functional.cosine_similarity(expected.pooled, found[0]).min().item()
    if not cosine >= LOST:
        raise AdaCLIPError(f"In {precision} a vector has a cosine of {cosine:.2g} to the encoder's: use float32.")
    return differences | {"lowest_cosine": round(cosine, 6)}


def run(session: InferenceSession, rows: Tensor, mask: Tensor, ids: str = "int64") -> tuple[Tensor, Tensor]:
    """Return pooled (B, P) and tokens (B, L, H) of an exported model for token ids and mask (B, L)."""
    feed = {"input_ids": rows.numpy().astype(ids), "attention_mask": mask.numpy().astype(ids)}
    pooled, tokens = session.run(None, feed)
    return torch.from_numpy(pooled), torch.from_numpy(tokens)


def _check_packages() -> None:
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        raise AdaCLIPError(f"The ONNX export needs {', '.join(absent)}: pip install 'adaclip[onnx]'.")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings and log lines of the exporters."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
