from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch

from adaclip import AdaCLIP


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may reach the network, whatever the machine it runs on allows."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model's folder; not to be written to."""
    return tiny.save_base(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture
def fresh(base: Path) -> AdaCLIP:
    """An untrained adapter."""
    torch.manual_seed(0)  # A is drawn from the global generator
    return AdaCLIP.from_base(base, rank=4, alpha=8).eval()


@pytest.fixture
def encoder(fresh: AdaCLIP) -> AdaCLIP:
    """An adapter that differs from its base."""
    return tiny.perturb(fresh)


@pytest.fixture
def adapter(encoder: AdaCLIP, tmp_path: Path) -> Path:
    """The folder of `encoder`."""
    return encoder.save_pretrained(tmp_path / "adapter")
