"""Models as wide as ViT-B/32, for codebases that insist on its 512 numbers; results of tests for the page's table."""

from __future__ import annotations

import os

import pytest
import torch

from adaclip import AdaCLIP, exports
from tests.adaclip.openai_reference import adapted, real_tokenizer, scramble, text_config
from tests.integrations import table

_results = table.Results()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "shows(*claims): entries of the table on the integrations' page")


@pytest.hookimpl(tryfirst=True)  # before tests are deselected
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    table.attach(items, complete=not any("::" in argument for argument in config.args))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    for name, value in report.user_properties:
        if name == table.CLAIM:
            _results.add(*value, report.when, report.outcome)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Enter what the tests showed in the table's file, if $ADACLIP_RECORD is set."""
    if os.environ.get("ADACLIP_RECORD") and not hasattr(session.config, "workerinput"):
        _results.enter()


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A base as wide as ViT-B/32 with its vocabulary, two layers deep; two adapters; the base in OpenAI's format."""
    from transformers import CLIPConfig, CLIPModel

    root = tmp_path_factory.mktemp("wide")
    wide = {"hidden_size": 512, "intermediate_size": 2048, "projection_dim": 512, "num_attention_heads": 8}
    text = text_config(real_tokenizer(), 2, num_hidden_layers=2, **wide).to_dict()
    vision = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 1}
    vision |= {"image_size": 32, "patch_size": 16, "projection_dim": 512}
    torch.manual_seed(0)
    base = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=512))
    scramble(base)
    folder = root / "bases" / "clip-vit-base-patch32"
    base.save_pretrained(folder)
    real_tokenizer().save_pretrained(folder)
    adapted(folder, strength=0.05).save_pretrained(root / "adapter")
    adapted(folder, seed=3, strength=0.05).save_pretrained(root / "other")
    exports.to_openai(AdaCLIP.from_base(folder), root / "ViT-B-32.pt")
    exports.to_hf(AdaCLIP.from_base(folder), root / "full" / "clip-vit-base-patch32")
    return root
