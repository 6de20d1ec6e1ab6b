"""Throughput of `AdaCLIP.encode` and of the usual ways to encode prompts, at ViT-B/32's text size with random weights.

python benchmarks/encoder.py --prompts captions.txt
python benchmarks/encoder.py --prompts captions.txt --memory

The contestants encode the same prompts, from strings to pooled vectors, and alternate within one run; the table shows
medians over the rounds. The tokenizer is CLIP's own, whose vocabulary comes with the package openai-clip.
"""

from __future__ import annotations

import importlib.util
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import packaging.version
import torch
import tyro

from adaclip import AdaCLIP
from adaclip.exports import openai_weights

Contestant = Callable[[list[str]], torch.Tensor]
OURS, PADDED, SORTED, OPENAI, BASE = "adaclip", "HF padded to 77", "HF sorted, padded to longest", "openai-clip", "base"
VERBS = ("walks", "slowly runs", "jumps twice", "turns left", "kicks with the right foot", "sits down", "waves")
WAYS = ("", "forward", "in a big circle", "and then stops", "while holding both arms up", "to the left very quickly")


@dataclass(frozen=True)
class Options:
    prompts: Path | None = None
    """File with one prompt per line; None: generated prompts."""
    batch: int = 64
    """Prompts per call."""
    rounds: int = 7
    threads: int | None = None
    """None: torch's choice."""
    memory: bool = False
    """Measure the peak memory of one process per contestant instead of the time."""
    only: str | None = None
    """The contestant of this process (used by --memory itself)."""
    folder: Path | None = None
    """The adapter, with its base beside it (used by --memory itself)."""
    seed: int = 0


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    if options.threads:
        torch.set_num_threads(options.threads)
    prompts = read_prompts(options)
    with tempfile.TemporaryDirectory() as folder:
        if options.memory and options.only is None:
            adapter = save_models(Path(folder), options.seed)
            return measure_memory([*sys.argv[1:], "--folder", str(adapter)])
        adapter = options.folder or save_models(Path(folder), options.seed)
        contestants = build(adapter, options.only)
    if options.only is None:
        return report(measure_time(contestants, prompts, options), options)
    if options.only not in contestants:
        return None  # `openai_clip` has printed the reason
    for start in range(0, 4 * options.batch, options.batch):
        contestants[options.only](prompts[start : start + options.batch])
    print(peak_memory())
    return None


def read_prompts(options: Options) -> list[str]:
    """Distinct prompts, shuffled."""
    if options.prompts is None:
        lines = [f"a person {verb} {way} for {n} seconds" for verb in VERBS for way in WAYS for n in range(20)]
    else:
        lines = options.prompts.read_text(encoding="utf-8").splitlines()
    lines = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    order = torch.randperm(len(lines), generator=torch.Generator().manual_seed(options.seed)).tolist()
    return [lines[i] for i in order]


def save_models(folder: Path, seed: int) -> Path:
    """Save a random base of ViT-B/32's text size, and beside it an adapter of the paper's size with random weights."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    torch.manual_seed(seed)
    CLIPTextModelWithProjection(CLIPTextConfig()).save_pretrained(folder / "base")
    real_tokenizer().save_pretrained(folder / "base")
    encoder = AdaCLIP.from_base(folder / "base")
    with torch.no_grad():
        for parameter in encoder.adapter_parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    encoder.merged().save_pretrained(folder / "merged")
    return encoder.save_pretrained(folder / "adapter")


def build(adapter: Path, only: str | None) -> dict[str, Contestant]:
    """Return all contestants with the same weights, or one of them with nothing else in memory."""
    if only in (None, OURS):
        encoder = AdaCLIP.from_pretrained(adapter)
        encoder.cache.max_bytes = 0  # the benchmark measures encoding, not the cache

        def ours(texts: list[str]) -> torch.Tensor:
            return encoder.encode(texts)

        def base(texts: list[str]) -> torch.Tensor:
            with encoder.disable_adapter():
                return encoder.encode(texts)

        if only:
            return {OURS: ours}
    from transformers import CLIPTextModelWithProjection

    tokenizer, merged = real_tokenizer(), CLIPTextModelWithProjection.from_pretrained(adapter.parent / "merged").eval()

    @torch.no_grad()
    def padded(texts: list[str], padding: str | bool = "max_length") -> torch.Tensor:
        batch = tokenizer(texts, padding=padding, truncation=True, max_length=77, return_tensors="pt")
        return merged(**batch).text_embeds

    def by_length(texts: list[str]) -> torch.Tensor:  # sentence-transformers: sort by length, groups of 32
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        groups = [order[i : i + 32] for i in range(0, len(order), 32)]
        vectors = torch.cat([padded([texts[i] for i in group], True) for group in groups])
        return vectors[torch.tensor(order).argsort()]

    found: dict[str, Contestant] = {PADDED: padded, SORTED: by_length}
    if only is None:
        found = {OURS: ours, **found, BASE: base}
    openai = openai_clip(merged) if only in (None, OPENAI) else None
    return {**found, OPENAI: openai} if openai else found


def real_tokenizer():
    """Read CLIP's byte-pair encoding from the openai-clip package, without importing the package."""
    from adaclip.openai_bases import BPE, bpe_tokenizer

    spec = importlib.util.find_spec("clip")
    if spec is None or spec.origin is None:
        sys.exit("The vocabulary of CLIP is missing: pip install openai-clip")
    return bpe_tokenizer(Path(spec.origin).with_name(BPE))


def openai_clip(merged: torch.nn.Module) -> Contestant | None:
    """Return OpenAI's model with the same weights, or None if its package cannot be imported."""
    stubs = {name: types.ModuleType(name) for name in ("torchvision", "torchvision.transforms", "pkg_resources")}
    for name in ("Compose", "Resize", "CenterCrop", "ToTensor", "Normalize", "InterpolationMode"):
        setattr(stubs["torchvision.transforms"], name, types.SimpleNamespace(BICUBIC=None))
    stubs["pkg_resources"].packaging = packaging
    absent = {name: stub for name, stub in stubs.items() if name not in sys.modules}
    sys.modules.update(absent)  # it imports image transforms and a version check, which text encoding does not use
    try:
        import clip
        from clip.model import CLIP
    except ImportError as error:
        print(f"openai-clip is left out: {error}", file=sys.stderr)
        return None
    finally:
        for name in absent:
            del sys.modules[name]
    model = CLIP(512, 32, 1, 64, 32, 77, 49408, 512, 8, 12).eval()
    missing, unexpected = model.load_state_dict(openai_weights.to_openai(merged.state_dict()), strict=False)
    if unexpected or not all(name.startswith(("visual.", "logit_scale")) for name in missing):
        raise RuntimeError(f"openai-clip's text tower has other tensors than expected: {missing}, {unexpected}")

    @torch.no_grad()
    def encode(texts: list[str]) -> torch.Tensor:
        return model.encode_text(clip.tokenize(texts, truncate=True))

    return encode


def measure_time(
    contestants: dict[str, Contestant], prompts: list[str], options: Options
) -> dict[str, tuple[list[float], float]]:
    """Seconds of each round, and the largest difference to the padded model's pooled vectors."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    worst = dict.fromkeys(contestants, 0.0)
    for step in range(options.rounds + 1):  # the first round is the warm-up
        texts = [prompts[(step * options.batch + i) % len(prompts)] for i in range(options.batch)]
        vectors = {}
        for name in sorted(contestants, key=lambda name: hash((name, step))):  # another order in each round
            start = time.perf_counter()
            vectors[name] = contestants[name](texts)
            if step:
                seconds[name].append(time.perf_counter() - start)
        for name, vector in vectors.items():
            worst[name] = max(worst[name], float((vector - vectors[PADDED]).abs().max()))
    return {name: (seconds[name], worst[name]) for name in contestants}


def report(results: dict[str, tuple[list[float], float]], options: Options) -> None:
    print(f"{options.batch} prompts per call, {options.rounds} rounds, {torch.get_num_threads()} threads, float32\n")
    print(f"| {'encoder':<28} | prompts/s | adaclip is | max difference |")
    print(f"|{'-' * 30}|----------:|-----------:|---------------:|")
    ours = results[OURS][0]
    for name, (seconds, difference) in results.items():
        rate = options.batch / statistics.median(seconds)
        ratio = statistics.median(theirs / mine for theirs, mine in zip(seconds, ours, strict=True))
        note = "not compared" if name == BASE else f"{difference:.1e}"
        print(f"| {name:<28} | {rate:9.1f} | {ratio:8.2f} × | {note:>14} |")


def peak_memory() -> int:
    """Largest resident size of this process in MB (Linux; getrusage would count the parent's from before exec)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def measure_memory(arguments: list[str]) -> None:
    for name in (OURS, PADDED, SORTED, OPENAI):
        command = [sys.executable, __file__, *arguments, "--only", name]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        if run.stdout.strip():
            print(f"{name:<28} {run.stdout.split()[-1]:>6} MB peak")


if __name__ == "__main__":
    main()
