"""The command `adaclip`, as a person types it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from safetensors import safe_open

from adaclip import AdaCLIP
from adaclip.card import CardDetails
from adaclip.cli import VERBS, main
from tests.helpers import FLOAT32, deviation


def test_encode_writes_every_kind_of_file(encoder: AdaCLIP, adapter: Path, tmp_path: Path) -> None:
    expected = encoder.encode(tiny.PROMPTS, output="both")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(tiny.PROMPTS) + "\n")
    for name in ("a.npy", "a.safetensors", "a.jsonl"):
        assert main(["encode", str(adapter), "--file", str(prompts), "--out", str(tmp_path / name)]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), expected.pooled.numpy())
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == tiny.PROMPTS
    assert torch.equal(torch.tensor([row["vector"] for row in rows]), expected.pooled)
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("pooled"), expected.pooled)
        assert json.loads(file.metadata()["prompts"]) == tiny.PROMPTS
    both = tmp_path / "both.safetensors"
    assert main(["encode", str(adapter), *tiny.PROMPTS, "--output", "both", "--out", str(both)]) == 0
    with safe_open(both, "pt") as file:
        assert torch.equal(file.get_tensor("tokens"), expected.tokens)
        assert torch.equal(file.get_tensor("mask"), expected.mask)


def test_encode_reads_standard_input_and_prints(
    encoder: AdaCLIP, adapter: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("hi\na person walks\n"))
    assert main(["encode", str(adapter), "--normalize"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert deviation(torch.tensor(rows[1]["vector"]), encoder.encode("a person walks", normalize=True)[0]) < FLOAT32


def test_info_says_what_the_adapter_is(encoder: AdaCLIP, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    details = CardDetails("cc-by-4.0", ("HumanML3D",), {"fid": 0.25})
    adapter = encoder.save_pretrained(tmp_path / "adapter", details=details)
    assert main(["info", str(adapter)]) == 0
    told = capsys.readouterr().out
    numbers = sum(p.numel() for p in encoder.adapter_parameters())
    for fact in ("base", "4 (alpha 8", "20 (float32)", f"{numbers:,} parameters", "cc-by-4.0", "HumanML3D", "fid 0.25"):
        assert fact in told


def test_compare_shows_base_and_adapters(
    encoder: AdaCLIP, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("a person walks\ta person runs\nhi\tthe person\n")
    other = tiny.perturb(encoder, seed=4).save_pretrained(tmp_path / "other")
    assert main(["compare", str(adapter), str(other), "--file", str(pairs)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[-3:] == ["base", "adapter", "other"]
    a, b = AdaCLIP.from_pretrained(adapter).encode(["a person walks", "a person runs"], normalize=True)
    cosines = [float(cell) for cell in lines[1].split()[-3:]]
    assert cosines[1] == pytest.approx(float(a @ b), abs=1e-3)
    assert len(set(cosines)) == 3
    assert lines[-2].split()[-3] == "1.000"  # the base keeps its own geometry
    assert float(lines[-1].split()[-2]) > 0.01  # and the adapter moved its vectors


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["encode", "./nowhere", "hi"], "./nowhere: no such adapter folder"),
        (["encode", "ADAPTER", "hi", "--out", "x.pkl"], "cannot write .pkl"),
        (["encode", "ADAPTER", "hi", "--output", "both"], "--out FILE.safetensors"),
        (["encode", "ADAPTER", "hi", "--file", "x.txt"], "not both"),
        (["encode", "ADAPTER", "--file", "/no/such/file"], "/no/such/file"),
        (["encode", "ADAPTER", "x " * 90, "--long", "error"], "does not see"),
        (["info", "./nowhere"], "./nowhere"),
        (["push", "ADAPTER", "me/it", "--metric", "fid"], "--metric fid: expected NAME=NUMBER"),
        (["compare"], "at least one adapter"),
    ],
)
def test_failures_are_one_line_and_exit_code_1(
    arguments: list[str], said: str, adapter: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main([str(adapter) if word == "ADAPTER" else word for word in arguments]) == 1
    told = capsys.readouterr()
    assert said in told.err
    assert told.err.count("\n") == 1
    assert told.err.startswith("adaclip: ")
    assert not told.out


def test_a_wrong_command_line_is_exit_code_2() -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["encoed"])
    assert exit_.value.code == 2


def test_export_looks_the_format_up(adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    monkeypatch.setattr("adaclip.exports.hf.to_hf", lambda encoder, out: written.append((encoder.base, out)))
    assert main(["export", str(adapter), str(tmp_path / "out"), "--to", "hf"]) == 0
    assert written[0][1] == tmp_path / "out"
    assert main(["export", str(adapter), str(tmp_path / "out"), "--to", "word"]) == 1


@pytest.mark.parametrize("verb", [[], *([verb] for verb in VERBS)])
def test_help_is_shown_at_once_and_imports_nothing_heavy(verb: list[str]) -> None:
    script = (
        "import sys, time, runpy, atexit; start = time.process_time();"
        f"sys.argv = ['adaclip', *{verb}, '--help'];"
        "heavy = {'torch', 'transformers', 'peft', 'huggingface_hub', 'numpy', 'ftfy', 'safetensors'};"
        "atexit.register(lambda: print('\\n', sorted(heavy & set(sys.modules)), time.process_time() - start));"
        "runpy.run_module('adaclip', run_name='__main__')"
    )
    shown = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert shown.startswith("usage: adaclip")
    heavy, _, seconds = shown.splitlines()[-1].rpartition(" ")
    assert heavy.strip() == "[]"
    assert float(seconds) < 1  # of processor time, about 0.2: a busy machine does not count


def test_importing_the_encoder_adds_little_to_torch() -> None:
    script = (
        "import torch, time; start = time.process_time(); from adaclip import AdaCLIP; import sys;"
        "print(time.process_time() - start); assert not {'transformers', 'peft'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", script]
    # Processor time, the best of three: 0.1 s. transformers and peft would add about 8.
    runs = (subprocess.run(command, check=True, capture_output=True, text=True) for _ in range(3))
    assert any(float(run.stdout) < 0.3 for run in runs)


def test_compare_tells_adapters_of_one_name_apart(adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    twin = tmp_path / "other" / adapter.name
    AdaCLIP.from_pretrained(adapter).save_pretrained(twin)
    assert main(["compare", str(adapter), str(twin)]) == 0
    header = capsys.readouterr().out.splitlines()[0]
    assert str(adapter) in header
    assert str(twin) in header


def test_a_file_of_pairs_that_is_no_text_is_named(adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "pairs.txt").write_bytes(b"a\tb\xff\n")
    assert main(["compare", str(adapter), "--file", str(tmp_path / "pairs.txt")]) == 1
    assert "pairs.txt: not UTF-8 text" in capsys.readouterr().err


def test_prompts_that_are_not_utf_8_are_written_as_escapes(adapter: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "adaclip", "encode", str(adapter), b"caf\xe9"]  # Latin-1, as old shells send it
    shown = subprocess.run(command, check=True, capture_output=True)
    assert json.loads(shown.stdout)["text"] == "caf\udce9"
    assert main(["encode", str(adapter), "caf\udce9", "--out", str(tmp_path / "a.jsonl")]) == 0
    assert (tmp_path / "a.jsonl").read_bytes() == shown.stdout
