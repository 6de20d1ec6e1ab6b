"""Old code, line by line: what packages dropped is there under `--compat`, and CUDA is the CPU under `--cpu`."""

from __future__ import annotations

import warnings
from argparse import Namespace

import numpy as np
import pytest
import torch
from adaclip_integrations.compat import compatible
from adaclip_integrations.cpu import cpu_for_cuda
from matplotlib import pyplot
from torch import nn

needs_no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA, so nothing is redirected")
DROPPED = """
assert np.float_(1) == 1 and np.Inf > 0 and np.NINF < 0 and np.isnan(np.NaN) and np.VisibleDeprecationWarning
assert np.product([2, 3]) == 6 and np.in1d([[1], [2]], [2]).tolist() == [False, True] and np.trapz([1.0, 1.0]) == 1
assert np.alltrue([1]) and np.asfarray([1]).dtype == np.float64 and np.row_stack([[1], [2]]).shape == (2, 1)
from torch._six import container_abcs, inf, string_classes; assert isinstance("a", string_classes) and inf > 0
from collections import Mapping, Sequence; assert isinstance({}, Mapping) and isinstance([], Sequence)
import inspect; assert inspect.getargspec(lambda a, b=1: 0)[0] == ["a", "b"]
import yaml; assert yaml.load("a: 1") == yaml.load("a: 1", yaml.SafeLoader) == {"a": 1}
import transformers; transformers.AdamW(WEIGHTS, lr=0.1, correct_bias=False).step()
torch.optim.lr_scheduler.ReduceLROnPlateau(torch.optim.SGD(WEIGHTS, 1), verbose=True).step(1.0)
torch.optim.lr_scheduler.StepLR(torch.optim.SGD(WEIGHTS, 1), 1, verbose=True)
import pkg_resources as p; assert p.parse_version(p.get_distribution("torch").version) > p.parse_version("1")
saved = torch.load(OLD); assert saved["opt"].width == 3 and saved["epoch"] == 2 and saved["mean"].tolist() == [0.5]
axes = plt.figure().gca(projection="3d"); assert axes.w_xaxis is axes.xaxis
assert plt.cm.get_cmap("viridis", 4).N == 4; plt.style.use("seaborn-whitegrid")
plt.figure().canvas.set_window_title("x"); plt.style.use("default"); plt.close("all")
from mpl_toolkits.mplot3d import Axes3D; figure = plt.figure(); axes = Axes3D(figure); assert figure.axes == [axes]
figure = plt.figure(); figure.add_subplot(projection="3d"); assert len(figure.axes) == 1
"""
ON_CUDA = """
assert torch.zeros(1, device=0).device == torch.ones(1).to(0).device == nn.Linear(2, 2).to(0).weight.device
assert torch.cuda.FloatTensor([1.0]).tolist() == torch.ones(1).type("torch.cuda.FloatTensor").tolist() == [1]
assert isinstance(torch.Generator(device="cuda").manual_seed(0), torch.Generator)
assert isinstance(torch.default_generator, torch.Generator)
assert torch.randn(1, generator=torch.Generator("cuda").manual_seed(1), device="cuda").shape == (1,)
assert torch.cuda.current_device() == 0 and torch.cuda.get_device_name(0) == "CPU"
torch.cuda.reset_peak_memory_stats(); torch.cuda.init(); torch.set_default_tensor_type("torch.cuda.FloatTensor")
made = torch.ones(2).pin_memory().new_zeros(3, device="cuda").new_tensor([1.0], device=torch.device("cuda", 0))
torch.normal(0.0, 1.0, (2,), device="cuda"), torch.asarray([1.0], device="cuda"), torch.hann_window(4, device="cuda")
torch.load(OLD, map_location=lambda storage, place: storage.cuda(0), weights_only=False)
with torch.cuda.device(0): torch.ones(1, device="cuda")
"""


def run_lines(lines: str, tmp_path) -> None:
    """Run each line as a program of its own."""
    old = {"opt": Namespace(width=3), "epoch": np.int64(2), "mean": np.array([0.5]), "net": torch.ones(1)}
    torch.save(old, tmp_path / "old.pt")
    scope = {"np": np, "torch": torch, "nn": nn, "plt": pyplot, "OLD": tmp_path / "old.pt"}
    scope["WEIGHTS"] = [torch.ones(1).requires_grad_()]
    for line in lines.strip().splitlines():
        exec(compile(line, "train.py", "exec"), {**scope, "__name__": "__main__"})


def test_what_packages_dropped_is_there_while_a_script_runs(tmp_path):
    with warnings.catch_warnings(action="ignore"), compatible():
        run_lines(DROPPED, tmp_path)
    for line in DROPPED.strip().splitlines():
        if "torch.load" in line or "yaml" in line or "torch._six" in line:
            with pytest.raises(Exception, match=r"Weights only|Loader|_six"):
                run_lines(line, tmp_path)


@needs_no_cuda
def test_code_for_cuda_runs_on_the_cpu_in_its_other_forms(tmp_path):
    with warnings.catch_warnings(action="ignore"), cpu_for_cuda():
        run_lines(ON_CUDA, tmp_path)
        torch.compile(nn.Linear(2, 2), backend="eager")(torch.ones(1, 2))
    assert "On" not in type(torch.Generator).__name__
