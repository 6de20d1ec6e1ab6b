"""Stand-ins for what current packages no longer have: there while a script runs, then gone; real things untouched."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest
import torch
from adaclip_integrations import compat, dropped, plotting
from adaclip_integrations.compat import compatible
from adaclip_integrations.cpu import FACTORIES, cpu_for_cuda
from adaclip_integrations.launch import main
from torch import nn

from adaclip import AdaCLIP
from tests.adaclip.openai_reference import adapted, modules_kept, save_base

needs_no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA, so nothing is redirected")


def state() -> tuple:
    import transformers

    numpy_names = {name: vars(np).get(name) for name in dropped.NUMPY}
    torch_names = {name: getattr(torch, name) for name in (*FACTORIES, "load", "save")}
    methods = [vars(cls).get(name) for cls in (torch.Tensor, nn.Module) for name in ("to", "cuda")]
    present = {*compat.OPTIONAL, "blobfile", "smplx", "pkg_resources", "torchvision"} & set(sys.modules)
    cuda = torch.cuda.is_available
    return cuda, numpy_names, torch_names, methods, present, hasattr(transformers.utils, "move_cache")


@pytest.fixture(autouse=True)
def nothing_left_behind():
    before = state()
    yield
    assert state() == before


def test_dropped_names_of_numpy():
    with compatible():
        assert [vars(np)[name] for name in ("float", "int", "object")] == [float, int, object]
        assert np.bool is not bool  # numpy has its own
        import numpy.core.umath_tests as tests

        a, b = np.arange(12.0).reshape(2, 2, 3), np.arange(12.0).reshape(2, 3, 2)
        assert np.allclose(tests.matrix_multiply(a, b), a @ b)
        assert np.allclose(tests.inner1d(a, a), (a * a).sum(-1))
    assert "float" not in vars(np)


def test_dropped_names_of_other_packages():
    with compatible():
        from transformers.utils import move_cache

        move_cache()
        import pkg_resources
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        assert pkg_resources.packaging.version.parse("1.10") > pkg_resources.packaging.version.parse("1.9")
        canvas = FigureCanvasAgg(Figure(figsize=(1, 2), dpi=10))
        canvas.draw()
        assert len(canvas.tostring_rgb()) == 10 * 20 * 3


def test_plots_can_be_emptied_by_assignment(tmp_path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.animation import FuncAnimation

    with compatible():
        for projection in (None, "3d"):
            figure = pyplot.figure()
            axes = figure.add_subplot(projection=projection)
            points = ([0, 1],) * (3 if projection else 2)
            (line,) = axes.plot(*points)
            axes.scatter(*points)
            axes.lines, axes.collections = [], []
            assert (len(axes.lines), len(axes.collections)) == (0, 0)
            axes.lines = [line] if projection is None else []
            assert list(axes.lines) == ([line] if projection is None else [])

            def update(index, axes=axes, points=points):
                axes.lines = []
                axes.collections = []
                axes.plot(*points)

            FuncAnimation(figure, update, frames=2).save(tmp_path / "motion.gif", writer="pillow")
            assert (tmp_path / "motion.gif").stat().st_size > 0
            pyplot.close(figure)
    with pytest.raises(AttributeError):
        pyplot.figure().add_subplot().lines = []
    pyplot.close("all")


@pytest.mark.parametrize("writer", [None, "ffmpeg", "pillow"])
def test_videos_are_skipped_with_one_message_where_ffmpeg_is_missing(writer, tmp_path, capsys, monkeypatch):
    from matplotlib import pyplot
    from matplotlib.animation import FuncAnimation, writers

    monkeypatch.setattr(writers, "is_available", lambda name: name == "pillow")
    plotting._said.clear()
    with compatible():
        for name in ("a.mp4", "b.mp4"):
            FuncAnimation(pyplot.figure(), lambda index: None, frames=2).save(tmp_path / name, writer=writer, fps=20)
    pyplot.close("all")
    said = capsys.readouterr().err
    assert said.count("videos are skipped: ffmpeg is not installed") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(importlib.util.find_spec("moviepy") is not None, reason="moviepy is installed here")
def test_clips_of_moviepy_accept_any_use_and_write_nothing(tmp_path, capsys):
    plotting._said.clear()
    with compatible():
        from moviepy.editor import VideoClip, clips_array
        from moviepy.video.io.bindings import mplfig_to_npimage

        assert mplfig_to_npimage is not None
        clips = clips_array([[VideoClip(lambda t: None, duration=2)]])
        clips.duration = 3
        clips.write_videofile(str(tmp_path / "x.mp4"), fps=20, logger=None)
        assert [clip.close() for clip in clips.clips] == []
        clips.close()
    assert capsys.readouterr().err.count("videos are skipped: moviepy 1 is not installed") == 1
    assert list(tmp_path.iterdir()) == []


def test_text_features_are_a_tensor_again(tmp_path):
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(save_base(tmp_path / "base", vision=True)).eval()
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        expected = model.get_text_features(ids).pooler_output
        with compatible():
            found = model.get_text_features(ids)
    assert torch.equal(found, expected)
    assert torch.equal(found.pooler_output, expected)


@needs_no_cuda
def test_only_assertions_of_cuda_pass(tmp_path):
    (tmp_path / "asserts.py").write_text(
        "import torch\ndef load():\n    assert torch.cuda.is_available()\n    return torch.cuda.is_available()\n"
    )
    spec = importlib.util.spec_from_file_location("asserts", tmp_path / "asserts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.raises(AssertionError):
        module.load()
    with compatible():
        assert module.load() is False
    with compatible(), cpu_for_cuda():
        assert module.load() is True
        assert AdaCLIP.from_base(save_base(tmp_path / "base")).device.type == "cpu"


@pytest.mark.parametrize("name", [*compat.OPTIONAL, "moviepy.editor", "smplx", "smplx.lbs", "blobfile"])
def test_absent_packages_can_be_imported_and_say_what_they_are_for_when_used(name, tmp_path):
    if importlib.util.find_spec(name.partition(".")[0]) is not None:
        pytest.skip(f"{name} is installed here, so nothing stands in for it")
    with compatible():
        module = importlib.import_module(name)
        if name == "blobfile":
            path = module.join(str(tmp_path), "x")
            with module.BlobFile(path, "wb") as file:
                file.write(b"1")
            assert module.exists(path)
        elif name == "smplx":

            class Body(module.SMPLLayer):
                def __init__(self):
                    raise OSError("files that are not there")

            with pytest.raises(ImportError, match="SMPL"):
                Body().eval()(1)
        else:
            with pytest.raises(ImportError, match=f"Install the package {name.partition('.')[0]}"):
                (module.vertices2joints if name == "smplx.lbs" else module.anything)(1)
    with pytest.raises(ImportError):
        importlib.import_module(name)


def test_packages_that_are_there_are_left_alone(monkeypatch, tmp_path):
    (tmp_path / "spacy.py").write_text("REAL = True")
    monkeypatch.syspath_prepend(tmp_path)
    with compatible():
        import spacy

        assert spacy.REAL
    sys.modules.pop("spacy")


@needs_no_cuda
def test_cuda_is_the_cpu_where_there_is_none(tmp_path):
    with cpu_for_cuda():
        device = torch.device("cuda:0")
        layer = nn.Linear(2, 2).to(device).cuda().to(dtype=torch.float64, device="cuda")
        assert (layer.weight.device.type, layer.weight.dtype) == ("cpu", torch.float64)
        made = [torch.zeros(1, device="cuda"), torch.arange(3, device=device), torch.tensor([1]).cuda().to("cuda:1")]
        assert {tensor.device.type for tensor in made} == {"cpu"}
        torch.save(made, tmp_path / "x")
        assert torch.load(tmp_path / "x", map_location=device)[1].tolist() == [0, 1, 2]
        torch.cuda.set_device(0)
        optimizer = torch.optim.AdamW([torch.ones(1, requires_grad=True)])
        optimizer.param_groups[0]["params"][0].grad = torch.ones(1)
        optimizer.param_groups[0]["capturable"] = True  # a CUDA graph
        optimizer.step()
        assert nn.Linear(2, 2).to("meta").weight.device.type == "meta"
    with pytest.raises((RuntimeError, AssertionError)):
        torch.zeros(1, device="cuda")


def test_an_encoder_loaded_inside_is_the_same(tmp_path):
    """torch and transformers build models under device contexts, which know torch's factories by identity."""
    encoder = adapted(save_base(tmp_path / "base"))
    encoder.save_pretrained(tmp_path / "adapter")
    with compatible(), cpu_for_cuda():
        inside = AdaCLIP.from_pretrained(tmp_path / "adapter").encode(["a person walks"])
    assert torch.equal(inside, encoder.encode(["a person walks"]))
    with torch.device("meta"):
        assert torch.arange(3).device.type == "meta"


def test_the_command_runs_a_script_or_a_module_with_its_own_encoder(tmp_path, monkeypatch, capsys):
    (tmp_path / "old.py").write_text(
        "import sys\nimport clip\nimport numpy as np\nfrom transformers import CLIPModel\n"
        "assert 'torchvision' not in sys.modules\nprint(np.float(1), sys.argv[1:], clip.tokenize('hi').shape)\n"
    )
    monkeypatch.chdir(tmp_path)
    for target in (["old.py"], ["-m", "old"]):
        with modules_kept("clip", "torchvision", "old"):
            main(["--compat", *target, "--x", "-m"])
        said = capsys.readouterr()
        assert said.out.strip() == "1.0 ['--x', '-m'] torch.Size([1, 77])"
        assert "adaclip-run" not in said.err  # nothing was to be replaced


@pytest.mark.parametrize("wrong", [[], ["-m"], ["missing.py"], ["--seam", "a:b", "x.py"], ["--base", "b", "x.py"]])
def test_a_wrong_command_line_is_refused(wrong, capsys):
    with pytest.raises(SystemExit, match=r"^2$|no such script"):
        main(["--compat", *wrong])
    with pytest.raises(SystemExit):
        main([])
    assert "usage: adaclip-run" in capsys.readouterr().err
