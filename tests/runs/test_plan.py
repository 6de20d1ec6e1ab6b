"""A plan counts what is there, and tells the time of a fit before it is started."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from rich.console import Console

from adaqf_train import planning
from adaqf_train.config import recipes
from adaqf_train.cli import main
from adaqf_train.config import override
from adaqf_train.data.batches import StepBatches
from adaqf_train.encoders import pocket_clip
from adaqf_train.judges import store
from adaqf_train.planning import calibration, work
from adaqf_train.planning.networks import build, parameters
from adaqf_train.planning.stand_in import StandIn, stand_in
from adaqf_train.generators.mdm import objective as fit_adaqf
from adaqf_train.errors import ConfigError

CAPTIONS = ["a person walks", "someone waves twice with the left hand", "a person turns"]


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


@pytest.fixture(scope="module")
def tiny_plan(tiny_config, tiny_train, accelerator) -> planning.Plan:
    return planning.make(tiny_config, accelerator, data=tiny_train, budget=0.5, test=16)


def linear(rows: float, inputs: int, outputs: int) -> float:
    return 2 * rows * inputs * outputs


def decoder_forward(config, frames: int, tokens: int, text_width: int, features: int) -> float:
    """Operations of the denoiser's forward pass on one clip, written down from its architecture."""
    width, ff, group = config.width, config.feedforward, config.frames_per_token
    rows, memory = frames // group, tokens + 1
    layer = 4 * linear(rows, width, width) + 4 * rows * rows * width  # self-attention
    layer += 2 * linear(rows, width, width) + 2 * linear(memory, width, width) + 4 * rows * memory * width
    layer += 2 * linear(rows, width, ff)
    window = group if group == 1 else 2 * group  # of frames that a token reads and writes
    outside = (
        2 * linear(rows, features * window, width) + linear(tokens, text_width, width) + 2 * linear(1, width, width)
    )
    return config.layers * layer + outside


def extractor_forward(config, frames: int, features: int) -> float:
    """The same of the motion extractor."""
    c, h, e = config.movement, config.motion_hidden, config.embedding
    half, quarter = frames // 2, frames // 4
    convolutions = linear(half, 4 * (features - 4), c) + linear(quarter, 4 * c, c)
    gru = 2 * (linear(quarter, h, 3 * h) + linear(quarter, h, 3 * h))
    head = linear(1, 2 * h, h) + linear(1, h, e)
    return convolutions + linear(quarter, c, c) + linear(quarter, c, h) + gru + head


def test_the_work_that_is_counted_is_that_of_the_architecture(tiny_config):
    tokenizer = pocket_clip.train_tokenizer(CAPTIONS, 600)
    networks = build(tiny_config, 263, tokenizer)
    counted = work.by_part(tiny_config, networks, 64, 12, 263)
    forward = decoder_forward(tiny_config.denoiser, 64, 12, networks.encoder.hidden_size, 263)
    # The backward pass is twice the forward pass, but for the first layer, whose input needs no gradient.
    first = linear(64 // 4, 263 * 8, tiny_config.denoiser.width) + linear(1, 16, 16)
    assert counted["adaqf"]["denoiser"] == pytest.approx(3 * forward - first, rel=0.01)
    assert counted["baseline"]["denoiser"] < counted["adaqf"]["denoiser"]  # no gradient for the text
    extractor = extractor_forward(tiny_config.extractors, 64, 263)
    # The real motion goes forward, the generated one forward and back, though no weight learns.
    assert counted["adaqf"]["feedback"] == pytest.approx(3 * extractor, rel=0.06)
    assert counted["adaqf"]["text encoder"] > counted["baseline"]["text encoder"] > 0
    longer = work.by_part(tiny_config, networks, 128, 12, 263)["adaqf"]["feedback"]
    assert longer == pytest.approx(2 * counted["adaqf"]["feedback"], rel=0.05)  # control: it follows the frames
    cached = override(tiny_config, ["training.cache_text=true"])
    assert work.by_part(cached, networks, 64, 12, 263)["baseline"]["text encoder"] == 0


def test_the_papers_adapter_and_denoiser_have_their_sizes():
    config = recipes.load("humanml3d")
    with torch.device("meta"):
        networks = build(config, 263, pocket_clip.train_tokenizer(CAPTIONS, 600))
    adapter = sum(p.numel() for p in networks.encoder.adapter_parameters())
    assert adapter == 1_572_864
    assert parameters(networks.encoder) - adapter == 63_428_096
    assert parameters(networks.denoiser) == pytest.approx(26.3e6, rel=0.01)
    assert parameters(networks.encoder, trainable=True) == adapter


def test_bases_of_unknown_size_are_refused():
    config = override(recipes.load("humanml3d"), ["encoder.base=someone/else"])
    with pytest.raises(ConfigError, match="does not know its size"):
        build(config, 263, pocket_clip.train_tokenizer(CAPTIONS, 600))


def test_stand_ins_have_the_shapes_of_what_they_stand_for():
    for recipe, features, mean in (("humanml3d", 263, 142), ("kit", 251, 129)):
        config = recipes.load(recipe)
        dataset, _, source = stand_in(config)
        lengths = [len(item.vectors) for item in dataset.items]
        assert dataset.features == features
        assert min(lengths) >= config.data.min_frames
        assert max(lengths) < config.data.max_frames
        assert sum(lengths) / len(lengths) == pytest.approx(mean, rel=0.03)
        assert "no data given" in source
    dataset, samples, _ = stand_in(recipes.load("demo"))
    assert samples == 510
    assert max(len(item.vectors) for item in dataset.items) < 120


def test_padded_frames_are_those_of_the_batches(tiny_config):
    dataset = StandIn(tiny_config.data, 263, range(40, 190), [CAPTIONS])
    for bucket in (1, 4):
        source = StepBatches(dataset, 8, 0, bucket=bucket)
        seen = sum(source[step].motion.shape[1] for step in range(36)) / 36
        assert calibration.padded_frames(source, 36) == pytest.approx(seen, abs=4)  # a crop may be a unit shorter


def test_what_is_kept_for_the_backward_pass_is_what_grows_with_the_clips(tiny_train):
    layer, source = torch.nn.Linear(263, 5), StepBatches(tiny_train, 8, 0)

    def step(batch) -> None:
        y = layer(batch.motion)
        (y.exp() + y.exp()).sum().backward()

    batch = source[0]
    floats = batch.motion.numel() + 2 * batch.motion.shape[0] * batch.motion.shape[1] * 5  # input, two exponentials
    assert calibration.activations(step, batch) == pytest.approx(4 * floats, rel=0.01)


def test_a_plan_has_every_stage(tiny_plan, tiny_config):
    assert [stage.name for stage in tiny_plan.stages] == ["extractors", "evaluator", "baseline", "adaqf", "evaluation"]
    for stage in tiny_plan.stages:
        assert stage.hours == pytest.approx(stage.steps * stage.speed.seconds / 3600)
        assert work.total(stage.work) > 0
        assert min(stage.memory.values()) >= 0
    assert [stage.steps for stage in tiny_plan.stages[:4]] == [3, 3, 6, 6]
    assert tiny_plan.stages[4].steps == 2 * 2 * 1 * 2  # arms, replications, batches, steps of the sampler
    content = json.loads(json.dumps(tiny_plan.as_dict()))
    assert content["stages"][3]["hours"] == tiny_plan.stages[3].hours
    console = Console(record=True, width=120)
    tiny_plan.show(console)
    text = console.export_text()
    assert all(name in text for name in ("LoRA adapter", "feedback", "AdamW's moments", "evaluation"))


def test_the_verb_prints_json_alone(tiny_data, capsys):
    arguments = [
        "plan",
        "--recipe",
        "pocket",
        "--data",
        str(tiny_data),
        "--budget",
        "0.2",
        "--json",
        "--processes",
        "2",
    ]
    small = ["training.batch=8", "extractors.batch=8", "evaluator.batch=8"]
    capsys.readouterr()
    assert main([*arguments, *(part for setting in small for part in ("--set", setting))]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["processes"] == 2
    assert {part["name"]: part["trainable"] for part in content["parts"]}["LoRA adapter"] == 73_728


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--processes", "3"], "extractors.batch (64) cannot be divided by it"),
        (["--processes", "0"], "cannot be divided"),
        (["--budget", "0"], "--budget must be positive"),
        (["--recipe", "huge"], "no recipe 'huge'"),
    ],
)
def test_a_plan_that_cannot_be_made_is_one_line(arguments, says, capsys):
    assert main(["plan", *arguments]) == 1
    assert says in capsys.readouterr().err


@pytest.mark.slow
def test_a_plan_tells_the_time_of_a_fit(tiny_config, tiny_run, tiny_train, accelerator, tmp_path):
    """Tolerant, for other programs share the machine: the best of some tries, each a plan beside a fit."""
    extractors, _ = store.load_extractors(tiny_run / "extractors")
    base = str(tiny_run / "pocket_clip")

    def seconds(steps: int) -> float:
        quiet = replace(tiny_config.training, batch=32, steps=steps, log_every=100, checkpoint_every=1000)
        config, folder = replace(tiny_config, training=quiet), tmp_path / f"{time.monotonic_ns()}"
        start = time.perf_counter()
        fit_adaqf.fit(
            accelerator,
            tiny_train,
            base,
            extractors,
            config,
            name="adaqf",
            checkpoints=folder / "checkpoints",
            log=folder / "adaqf.jsonl",
        )
        return time.perf_counter() - start

    ratios = []
    for _ in range(5):
        planned = replace(tiny_config, training=replace(tiny_config.training, batch=32))
        plan = planning.make(planned, accelerator, data=tiny_train, budget=3, test=16)
        predicted = {stage.name: stage.speed.seconds for stage in plan.stages}["adaqf"]
        ratios.append(predicted / ((seconds(45) - seconds(5)) / 40))  # without what a fit takes to begin
        if abs(ratios[-1] - 1) < 0.25:
            break
    assert abs(ratios[-1] - 1) < 0.25, f"planned to measured: {ratios}"
