"""The command `adaclip` with files that must not be lost, odd lines, damaged adapters and closed streams."""

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
from safetensors.torch import load_file, save_file

from adaclip import AdaCLIP, AdaCLIPError, exports
from adaclip.cli import main
from tests.helpers import FLOAT32, deviation


def test_model_files_are_not_overwritten(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "write", lambda _, out, __: out.write_text("export"))  # the formats have own tests
    monkeypatch.setenv("HOME", str(tmp_path))
    weights = adapter / "adapter_model.safetensors"
    (tmp_path / "link.safetensors").symlink_to(weights)
    np.save(tmp_path / "data.npy", np.zeros((3, 263), np.float32))
    save_file({"x": torch.zeros(1)}, tmp_path / "data.safetensors")
    (tmp_path / "data.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "model.onnx").write_text("another program's")
    (tmp_path / "notes.pt").write_text("notes")
    (adapter / "vectors.npy").write_bytes(b"")
    names = ["adapter/adapter_model.safetensors", "link.safetensors", "data.npy", "data.safetensors", "data.jsonl"]
    before = {name: (tmp_path / name).read_bytes() for name in names}
    for name in [*names, "adapter/vectors.npy", "~/data.npy"]:
        out = name if name.startswith("~") else str(tmp_path / name)
        assert main(["encode", str(adapter), "hi", "--out", out]) == 1
        assert "use --force" in capsys.readouterr().err
    for name in ("adapter/adapter_model.safetensors", "model.onnx", "notes.pt", "link.safetensors"):
        assert main(["export", str(adapter), str(tmp_path / name), "--to", "onnx"]) == 1
        assert "use --force" in capsys.readouterr().err
    assert {name: (tmp_path / name).read_bytes() for name in names} == before
    assert main(["encode", str(adapter), "hi", "--out", str(tmp_path / "data.npy"), "--force"]) == 0
    assert np.load(tmp_path / "data.npy").shape == (1, 6)


def test_earlier_results_are_replaced(adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "link.npy").symlink_to(tmp_path / "a.npy")
    for name in ("a.npy", "a.safetensors", "a.jsonl"):
        for prompts in (["hi"], ["hi", "a person walks"]):
            assert main(["encode", str(adapter), *prompts, "--out", f"~/{name}"]) == 0
    assert np.load(tmp_path / "a.npy").shape == (2, 6)
    assert main(["encode", str(adapter), "hi", "--out", str(tmp_path / "link.npy")]) == 0
    assert (tmp_path / "link.npy").is_symlink()
    assert np.load(tmp_path / "a.npy").shape == (1, 6)


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"hi\n\na person walks\n", ["hi", "", "a person walks"]),
        (b"\xef\xbb\xbfhi\r\nwalks", ["hi", "walks"]),
        ("a\x0bb\x0cc\x1cd\u2028e\x85f\rg\n".encode(), ["a\x0bb\x0cc\x1cd\u2028e\x85f\rg"]),
        (b"\n\n", ["", ""]),
        (b" hi \nhi", [" hi ", "hi"]),
    ],
)
def test_rows_follow_lines(
    adapter: Path, encoder: AdaCLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, lines: list[str]
) -> None:
    (tmp_path / "prompts.txt").write_bytes(content)
    assert (
        main(["encode", str(adapter), "--file", str(tmp_path / "prompts.txt"), "--out", str(tmp_path / "a.jsonl")]) == 0
    )
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_bytes().decode().removesuffix("\n").split("\n")]
    assert [row["text"] for row in rows] == lines
    assert deviation(torch.tensor([row["vector"] for row in rows]), encoder.encode(lines)) < FLOAT32
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))
    assert main(["encode", str(adapter), "--out", str(tmp_path / "b.jsonl")]) == 0
    assert (tmp_path / "b.jsonl").read_bytes() == (tmp_path / "a.jsonl").read_bytes()


def forget_digests(adapter: Path) -> None:
    (adapter / "digests.json").unlink()
    settings = json.loads((adapter / "adaclip.json").read_text())
    del settings["lora_sha256"]
    (adapter / "adaclip.json").write_text(json.dumps(settings))


def damage(adapter: Path, how: str) -> None:
    """Change an adapter of an earlier version, which has no digests."""
    forget_digests(adapter)
    settings, config = adapter / "adaclip.json", adapter / "adapter_config.json"
    weights = adapter / "adapter_model.safetensors"
    if how.startswith(("{", "[")):
        settings.write_text(how)
    elif how in ("float8_e4m3fn", "int8", "bool", "complex64", "float64"):
        save_file({n: t.to(getattr(torch, how)) for n, t in load_file(weights).items()}, weights)
    elif how == "many tensors":
        save_file({f"t{i}": torch.zeros(0) for i in range(30_000)}, weights)
    else:
        field, _, value = how.partition("=")
        config.write_text(json.dumps(json.loads(config.read_text()) | {field: json.loads(value)}))


EVIL = "(?:(.)|(..))*[^a-z_.0-9]"  # exponential in the length of a name
FAULTS = [
    ('{"metrics": [1]}', "adaclip.json: metrics must be finite numbers by name"),
    ('{"metrics": {"fid": NaN}}', "adaclip.json: metrics must be finite numbers by name"),
    ('{"datasets": "HumanML3D"}', "adaclip.json: datasets must be a list of names"),
    ('{"license": ["mit"]}', "adaclip.json: license must be a name"),
    ("[]", "adaclip.json: expected a JSON object"),
    ("[" * 100_000, "adaclip.json: not valid JSON"),
    ("float8_e4m3fn", "has type float8_e4m3fn"),
    ("int8", "has type int8"),
    ("bool", "has type bool"),
    ("complex64", "has type complex64"),
    ("many tensors", "30000 tensors; an adapter has at most 20000"),
    ("lora_alpha=NaN", "lora_alpha is nan; expected a finite number"),
    ("lora_alpha=Infinity", "lora_alpha is inf; expected a finite number"),
    ('alpha_pattern={"fc1": NaN}', "alpha_pattern of fc1 is nan"),
    ('rank_pattern={"fc1": 0}', "rank_pattern of fc1 is 0"),
    ("r=1000000000", "r is 1000000000; expected a rank"),
    ("r=4000", "has rank 4000"),
    (f'target_modules="{EVIL}"', "its patterns take over 0.5 s"),
    (f'exclude_modules="{EVIL}"', "its patterns take over 0.5 s"),
    (f'rank_pattern={{"{EVIL}": 2}}', "its patterns take over 0.5 s"),
    ('target_modules="(unclosed"', "is not valid"),
    ('modules_to_save=["(.*)*x"]', "expected names of modules"),
    ("layer_replication=[[0, 4]]", "layer_replication is [[0, 4]], which AdaCLIP does not support"),
    ("use_qalora=true", "use_qalora is True, which AdaCLIP does not support"),
    ("from_the_future=3", "from_the_future is 3, which AdaCLIP does not support"),
]


@pytest.mark.parametrize(("how", "said"), FAULTS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_adapters_are_one_line(adapter: Path, capsys: pytest.CaptureFixture, how: str, said: str) -> None:
    damage(adapter, how)
    assert main(["encode", str(adapter), "hi"]) == 1
    told = capsys.readouterr()
    assert said in told.err
    assert told.err.startswith("adaclip: ")
    assert told.err.count("\n") == 1
    assert not told.out


def test_double_precision_is_read(adapter: Path, encoder: AdaCLIP) -> None:
    damage(adapter, "float64")
    assert torch.equal(AdaCLIP.from_pretrained(adapter).encode(["hi"]), encoder.encode(["hi"]))


def test_metrics_that_are_no_number_are_refused(adapter: Path, capsys: pytest.CaptureFixture) -> None:
    for value in ("nan", "inf", "-inf", "one"):
        assert main(["push", str(adapter), "me/it", "--metric", f"fid={value}"]) == 1
        assert f"--metric fid={value}: expected NAME=NUMBER, a finite number" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("shell", "code", "said"),
    [
        ("{run} | head -n 1; exit ${{PIPESTATUS[0]}}", 141, ""),
        ("{run} >&-", 1, "adaclip: Standard output is closed: give --out FILE."),
        ("{run} > /dev/full", 1, "adaclip: [Errno 28] No space left on device"),
        ("{python} -m adaclip encode {adapter} < /dev/null", 1, "adaclip: standard input: no prompts found"),
    ],
)
@pytest.mark.slow
def test_streams_that_end_leave_no_traceback(adapter: Path, tmp_path: Path, shell: str, code: int, said: str) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("".join(f"walk {i}\n" for i in range(3000)))
    run = f"{sys.executable} -m adaclip encode {adapter} --file {prompts}"
    command = shell.format(run=run, adapter=adapter, python=sys.executable)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == code
    told = [line for line in done.stderr.splitlines() if "Encoding" not in line and "Loading" not in line and line]
    assert "".join(told).startswith(said)
    assert len(told) == bool(said)
    assert "Traceback" not in done.stderr


def test_unexpected_errors_are_one_line(
    adapter: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("some\nkey")

    monkeypatch.setattr(AdaCLIP, "from_pretrained", fail)
    assert main(["encode", str(adapter), "hi"]) == 1
    assert capsys.readouterr().err.startswith("adaclip: KeyError: ")
    monkeypatch.setenv("ADACLIP_TRACEBACK", "1")
    with pytest.raises(KeyError):
        main(["encode", str(adapter), "hi"])


def test_search_finds_clips_by_their_captions(
    adapter: Path, encoder: AdaCLIP, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    texts = tmp_path / "data" / "texts"
    texts.mkdir(parents=True)
    (texts / "000001.txt").write_text("a person walks#a/DET person/NOUN walk/VERB#0.0#0.0\nhi there#hi/X#1.5#nan\n")
    (texts / "000002.txt").write_text("he turns left, then waves twice\n\n")
    (texts / "000003.txt").write_bytes(b"\xef\xbb\xbfthe person walks slowly backwards#x#0.5#2.0\r\n")
    assert main(["search", str(adapter), "a person walks", str(tmp_path / "data"), "--json", "--top", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found[0]["clip"] == "000001"
    assert found[0]["score"] == pytest.approx(1, abs=1e-5)
    assert len(found) == 2
    a, b = encoder.encode(["a person walks", found[1]["text"]], normalize=True)
    assert found[1]["score"] == pytest.approx(float(a @ b), abs=1e-5)
    assert main(["search", str(adapter), "the person walks slowly backwards", str(texts)]) == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert first == " 1.000  000003  the person walks slowly backwards"
    assert len(others) == 2
    for arguments, said in (
        ([" ", str(texts)], "is empty"),
        (["hi", str(tmp_path)], "no captions there"),
        (["hi", str(tmp_path / "nowhere")], "no such folder"),
        (["hi", str(texts), "--top", "0"], "top must be at least 1"),
    ):
        assert main(["search", str(adapter), *arguments]) == 1
        assert said in capsys.readouterr().err
    (texts / "000004.txt").write_bytes(b"\xff\xfe")
    assert main(["search", str(adapter), "hi", str(texts)]) == 1
    assert "000004.txt: not UTF-8 text" in capsys.readouterr().err


def test_similarity_is_the_cosine(encoder: AdaCLIP) -> None:
    vectors = encoder.encode(tiny.PROMPTS)
    expected = torch.nn.functional.cosine_similarity(vectors[:, None], vectors[None], dim=-1)
    assert deviation(encoder.similarity(vectors, vectors.numpy()), expected) < FLOAT32


def test_edits_of_what_vectors_depend_on_are_noticed(adapter: Path) -> None:
    config = adapter / "adapter_config.json"
    kept = config.read_text()
    config.write_text(json.dumps(json.loads(kept) | {"lora_alpha": 9}))
    with pytest.raises(AdaCLIPError, match=r"adapter_config\.json: changed since it was saved"):
        AdaCLIP.from_pretrained(adapter)
    config.write_text(json.dumps(json.loads(kept) | {"task_type": "FEATURE_EXTRACTION", "lora_dropout": 0.5}))
    assert AdaCLIP.from_pretrained(adapter).encode(["hi"]).isfinite().all()
