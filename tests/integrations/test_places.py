"""What `adaclip-run` does with each place that loads CLIP: serve it, keep it, or stop; never vanilla in silence."""

from __future__ import annotations

import os
import pickle
import sys
import textwrap
import types

import pytest
import torch
from adaclip_integrations import names, places
from adaclip_integrations.fingerprint import recorded_in
from adaclip_integrations.launch import command, main
from adaclip_integrations.replacement import NotServedError, replaced

from adaclip import AdaCLIP, openai_clip
from tests.adaclip.openai_reference import adapted, modules_kept, save_base
from tests.helpers import FLOAT32, deviation

PROMPTS = ["a person walks", "a person jumps twice, then waves slowly"]
HUB = "openai/clip-vit-base-patch32"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """An adapter of a small CLIP under its published name, and a CLIP folder under the name of a larger one."""
    root = tmp_path_factory.mktemp("places")
    adapted(save_base(root / "bases" / "clip-vit-base-patch32", vision=True)).save_pretrained(root / "adapter")
    save_base(root / "deps" / "clip-vit-large-patch14", vision=True, seed=4)
    save_base(root / "deps" / "text", vision=True, seed=4)
    return root


@pytest.fixture(scope="module")
def encoder(root):
    return AdaCLIP.from_pretrained(root / "adapter")


@pytest.fixture
def launch(root, tmp_path, monkeypatch):
    """launch(script, *options, **files): runs a script with the adapter, in a folder with further files."""

    def run(code: str, *options: str, **files: str) -> None:
        for name, content in {"train": code, **files}.items():
            path = tmp_path / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(textwrap.dedent(content))
        main(["--weights", str(root / "adapter"), *options, "train.py"])

    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield run
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    sys.modules.pop("utils", None)


@pytest.fixture
def installed():
    """A package `clip` that counts its loads, in the place of OpenAI's."""
    loads: list[str] = []
    package = types.ModuleType("clip")
    package.load = lambda name, **_: (loads.append(name) or torch.nn.Linear(2, 2), None)
    package.tokenize = lambda texts, *_, **__: torch.full((1, 77), 7)
    package.__path__ = []
    with modules_kept("clip"):
        sys.modules["clip"] = package
        yield loads


EVALUATOR = """
    import clip

    class Judge:
        def __init__(self):
            self.clip, _ = clip.load("ViT-B/16", device="cpu", jit=False)
            self.ids = clip.tokenize("a person walks")
"""
GENERATOR = """
    import clip
    from utils.evaluators import Judge

    judge = Judge()
    model, _ = clip.load("ViT-B/32", device="cpu", jit=False)
    assert type(judge.clip).__name__ == "Linear" and int(judge.ids[0, 0]) == 7
    assert type(model).__name__ == "FrozenEncoder" and int(clip.tokenize("a")[0, 0]) != 7
"""


def test_evaluation_networks_keep_their_clip_and_generators_do_not(launch, installed, capsys):
    launch(GENERATOR, utils__evaluators=EVALUATOR)
    said = capsys.readouterr().err
    assert installed == ["ViT-B/16"]
    assert said.count("clip.load('ViT-B/16') in utils/evaluators.py:6 keeps its own CLIP, as an evaluator's") == 1
    assert "clip.load('ViT-B/32') is served by AdaCLIP" in said
    assert "in train.py:6" in said


def test_a_helper_of_an_evaluation_network_keeps_its_clip_and_serves_generators(launch, installed, capsys):
    helper = (
        "import clip\ndef load_clip():\n    return clip.load('ViT-B/32')[0]\ndef build():\n    return load_clip()\n"
    )
    code = """
        import helper

        class MotionEvaluator:
            def __init__(self):
                self.clip = helper.build()

        class Generator:
            def __init__(self):
                self.clip = helper.build()

        kinds = [type(holder().clip).__name__ for holder in (MotionEvaluator, Generator)]
        assert kinds + [type(helper.build()).__name__] == ["Linear", "FrozenEncoder", "FrozenEncoder"]
    """
    launch(code, helper=helper)
    said = capsys.readouterr().err
    assert said.count("clip.load('ViT-B/32') in helper.py:3 keeps its own CLIP, as an evaluator's") == 1
    assert said.count("in helper.py:3\n") == 1  # served


def test_each_place_is_named_once(launch, capsys):
    code = """
        import clip
        for _ in range(3):
            clip.load("ViT-B/32", device="cpu")
        clip.load("ViT-B/32", device="cpu")
    """
    launch(code)
    said = capsys.readouterr().err
    assert said.count("train.py:4\n") == 1
    assert said.count("train.py:5\n") == 1


STOPS = [
    "import clip; clip.load('ViT-B/16')",
    "import clip; clip.load('/models/ViT-L-14.pt', jit=False)",
    "import transformers; transformers.CLIPTextModel.from_pretrained(DEPS + '/clip-vit-large-patch14')",
    "import transformers; transformers.AutoModel.from_pretrained('openai/clip-vit-base-patch16')",
    "import transformers; transformers.AutoTokenizer.from_pretrained(DEPS + '/clip-vit-large-patch14')",
    "import transformers; transformers.AutoModel.from_pretrained(DEPS + '/text')",
    "import clip, torch; clip.model.build_model({'text_projection': torch.zeros(768, 768)})",
]


@pytest.mark.parametrize("code", STOPS)
def test_a_clip_that_is_not_served_stops_the_script_before_it_trains(code, launch, root, capsys):
    with pytest.raises(NotServedError, match=r"in train.py:1 is not replaced: adaclip-run serves ViT-B/32.*--keep"):
        launch(f"{code.replace('DEPS', repr(str(root / 'deps')))}\nraise KeyError('it went on')\n")
    capsys.readouterr()


def test_a_clip_stays_where_the_user_says_so(launch, installed, root, capsys):
    code = f"""
        import clip, transformers
        clip.load("ViT-B/16")
        transformers.AutoModel.from_pretrained({str(root / "deps" / "text")!r})
    """
    launch(code, "--keep", "tr*.py")
    said = capsys.readouterr().err
    assert said.count("keeps its own CLIP, as --keep says") == 2
    assert "nothing was replaced" in said


def test_another_name_can_be_served(launch, root, encoder, tmp_path):
    code = f"""
        import clip, torch, transformers
        folder = {str(root / "deps" / "text")!r}
        model = transformers.AutoModel.from_pretrained(folder, subfolder="", revision="main").eval()
        ids = transformers.AutoTokenizer.from_pretrained(folder)({PROMPTS!r}, padding=True, return_tensors="pt")
        with torch.no_grad():
            states = model.text_model(ids["input_ids"]).pooler_output
        torch.save(model.text_projection(states).detach(), "out.pt")
        clip.load("mine.pt", "cpu")
    """
    launch(code, "--as", str(root / "deps" / "text"), "--as", "mine.pt")
    assert deviation(torch.load(tmp_path / "out.pt"), encoder.encode(PROMPTS)) < FLOAT32


def test_the_error_is_one_line_at_the_command_line(root, tmp_path, monkeypatch):
    (tmp_path / "train.py").write_text(STOPS[0])
    monkeypatch.setattr(sys, "argv", ["adaclip-run", "--weights", str(root / "adapter"), str(tmp_path / "train.py")])
    with pytest.raises(SystemExit) as caught:
        command()
    assert str(caught.value).startswith("adaclip-run: clip.load('ViT-B/16') in ")
    assert "\n" not in str(caught.value)


def test_a_training_without_the_encoder_is_said_when_it_begins(launch, capsys):
    code = """
        import sys, torch
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 0.1)
        for _ in range(3):
            optimizer.step()
        print("the end", file=sys.stderr)
    """
    launch(code)
    said = capsys.readouterr().err
    assert said.index("a training begins, and nothing was replaced so far") < said.index("the end")
    assert said.count("a training begins") == 1
    assert "nothing was replaced: the script" in said.partition("the end")[2]


def test_an_adapter_in_the_environment_that_nothing_uses_is_said(tmp_path, monkeypatch, capsys):
    (tmp_path / "train.py").write_text("import torch\ntorch.optim.SGD([torch.ones(1).requires_grad_()], 0.1).step()\n")
    for weights, said in (("mine/adapter", 1), ("vanilla", 0)):
        monkeypatch.setenv("ADACLIP_WEIGHTS", weights)
        main(["--compat", str(tmp_path / "train.py")])
        assert capsys.readouterr().err.count("ADACLIP_WEIGHTS=mine/adapter has no effect so far") == said
        places._reported.clear()


def test_a_tokenizer_alone_is_no_encoder(launch, tmp_path, capsys):
    code = f"""
        import torch, transformers
        transformers.CLIPTokenizer.from_pretrained({HUB!r})
        torch.save(torch.nn.Linear(2, 2).state_dict(), "net.pt")
    """
    launch(code)
    said = capsys.readouterr().err
    assert "is served by AdaCLIP" in said
    assert "nothing was replaced" in said
    assert recorded_in(torch.load(tmp_path / "net.pt")) is None


def test_options_without_effect_are_said(launch, capsys):
    launch("import clip\nclip.load('ViT-B/32')", "--keep", "utils/juge.py", "--as", "clpi.pt")
    said = capsys.readouterr().err
    assert "--keep utils/juge.py had no effect" in said
    assert "--as clpi.pt had no effect" in said


def test_programs_that_are_started_are_said_where_adaclip_does_not_reach_them(launch, capsys):
    code = """
        import os, subprocess, sys
        for _ in range(2):
            subprocess.run([sys.executable, "--version"], stdout=subprocess.DEVNULL)
        os.system("python3 --version > /dev/null")
        subprocess.run(["adaclip-run", "python"], executable="true")
        subprocess.check_output("true")
        theirs = compile("run([python, '--version'], stdout=-3)", "/site-packages/torch/workers.py", "exec")
        exec(theirs, {"__name__": "torch.workers", "run": subprocess.run, "python": sys.executable})
    """
    launch(code)
    said = capsys.readouterr().err
    assert said.count("train.py:4 starts another program, which AdaCLIP does not reach") == 1
    assert "train.py:5 starts" in said
    assert said.count("starts another program") == 2


FEATURES = {
    "clip_feats/000001.npy": True,
    "clip_feats/000002.npy": True,
    "text_embeddings.pt": True,
    "t5-emb/all.npz": True,
    "stored/captions_clip.pkl": True,
    "cached/text_cache.bin": True,
    "other/embeddings.npy": True,
    "texts/000001.npy": False,
    "clips/clip_0001.npy": False,
    "net/context_vector.npy": False,
    "lists/text_features.txt": False,
}


def test_files_with_text_features_are_said_once_a_folder(launch, tmp_path, capsys):
    for name in FEATURES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(pickle.dumps(0))
    code = f"""
        import pathlib, pickle
        for name in {list(FEATURES)} * 2:
            assert pickle.load(open(name, "rb")) == 0 and pathlib.Path(name).read_bytes()
        with open("prompt_feats.pkl", "wb") as file:  # with AdaCLIP
            pickle.dump(0, file)
        pickle.load(open("prompt_feats.pkl", "rb"))
    """
    launch(code)
    said = [line for line in capsys.readouterr().err.splitlines() if "look like text features" in line]
    assert len(said) == len({name.partition("/")[0] for name, holds in FEATURES.items() if holds})
    assert not [line for line in said if "prompt_feats" in line]


def test_an_edited_checkout_under_the_launcher_is_not_called_vanilla(launch, root, capsys):
    code = """
        import adaclip_integrations.openai_seam; clip = adaclip_integrations.openai_seam.Clip("nobody/has-this")
        model, _ = clip.load("ViT-B/32", device="cpu")
        assert model.encode_text(clip.tokenize("a person walks")).shape == (1, 48)
    """
    launch(code)
    said = capsys.readouterr().err
    assert "nothing was replaced" not in said
    assert "clip.load('ViT-B/32') is served by AdaCLIP" in said


OPENAI_PARTS = f"""
    import clip, torch
    from clip.simple_tokenizer import SimpleTokenizer as _Tokenizer
    from clip.clip import _tokenizer

    tokenizer = _Tokenizer()
    ids = tokenizer.encode("a person walks")
    full = clip.tokenize("a person walks")[0].tolist()
    assert ids == full[1 : 1 + len(ids)] and tokenizer.decode(ids).strip() == "a person walks"
    assert _tokenizer.encoder["<|endoftext|>"] == max(full)
    served, _ = clip.load("ViT-B/32", "cpu")
    built = clip.model.build_model({{"text_projection": torch.zeros(64, 48)}})
    assert built is served
    before = served.encode_text(clip.tokenize({PROMPTS!r}))
    served.initialize_parameters()
    served.cache.clear()
    assert torch.equal(served.encode_text(clip.tokenize({PROMPTS!r})), before)
    parameter = next(served.parameters())
    assert parameter.device.type == "cpu" and not parameter.requires_grad
    assert served.transformer.width == served.ln_final.weight.shape[0]
    assert served.transformer.layers == len(served.transformer.resblocks)
    del served.visual
    assert not list(torch.nn.ModuleList([served]).parameters())
"""


def test_the_stand_in_has_the_parts_of_openais_package(launch):
    with pytest.warns(UserWarning, match="draws new weights.*AdaCLIP keeps its own"):
        launch(OPENAI_PARTS)


SIZES = [
    ("openai/clip-vit-base-patch32", 512, 512, "ViT-B/32"),
    ("openai/clip-vit-base-patch16", 512, 512, "ViT-B/16"),
    ("runs/clip", 512, 512, "ViT-B/32"),
    ("runs/clip", 768, 768, "ViT-L/14"),
    ("models/clip-vit-base-patch32", 768, 768, "ViT-L/14"),
    ("/hub/models--openai--clip-vit-large-patch14-336/snapshots/ce19", 768, 768, "ViT-L/14@336px"),
    ("models/clip-vit-base-patch32", 64, 48, "ViT-B/32"),
    ("runs/pocket", 128, 128, None),
]


@pytest.mark.parametrize(("base", "hidden", "projection", "expected"), SIZES)
def test_sizes_decide_whose_place_an_adapter_takes(base, hidden, projection, expected):
    found = names.stands_for(base, hidden, projection)
    assert (found.openai if found else None) == expected


def test_an_adapter_of_unknown_sizes_is_refused_at_the_first_clip(tmp_path):
    small = adapted(save_base(tmp_path / "pocket"))
    with replaced(small, "A"):
        import clip

        with pytest.raises(NotServedError, match=r"serves no published CLIP with A \(states of 64 and vectors of 48"):
            clip.load("ViT-B/32")


@pytest.mark.parametrize(
    ("name", "qualified", "expected"),
    [
        ("utils/evaluators.py", "build", True),
        ("models/t2m_eval_wrapper.py", "build", True),
        ("networks/evaluator_wrapper.py", "Wrapper.__init__", True),
        ("models/net.py", "EvaluatorModel.__init__", True),
        ("models/MARDM.py", "MARDM.load_and_freeze_clip", False),
        ("utils/eval_trans.py", "evaluation_transformer", False),
    ],
)
def test_evaluators_are_known_by_their_names(name, qualified, expected):
    code = types.SimpleNamespace(co_filename=os.path.join("/x", name), co_qualname=qualified)
    frame = types.SimpleNamespace(f_globals={"__name__": "utils.something"}, f_code=code, f_lineno=3, f_back=None)
    assert places.is_evaluator(frame) is expected


def test_replicas_use_parts_on_their_own_device(encoder, monkeypatch):
    from adaclip_integrations.frozen import FrozenEncoder

    frozen = FrozenEncoder(encoder)
    replica = frozen._replicate_for_data_parallel()
    assert replica.token_embedding is frozen.token_embedding
    here = property(lambda self: torch.device("meta" if self._replica else "cpu"))
    monkeypatch.setattr(FrozenEncoder, "_used_on", here)
    assert replica.token_embedding.weight.device.type == "meta"
    assert replica.positional_embedding.device.type == "meta"
    assert frozen.token_embedding.weight.device.type == "cpu"
    ids = openai_clip.tokenize(PROMPTS, tokenizer=encoder.tokenizer)
    assert deviation(replica.encode_text(ids), encoder.encode(PROMPTS)) < FLOAT32
