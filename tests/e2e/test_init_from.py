"""lora.init_from: a run that starts from an adapter."""

import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file


@pytest.fixture(scope="module")
def first(program):
    program.train("train.steps=2", "checkpoint.every_steps=0", output="first", code=0)
    return program.directory / "first"


def steps(program, run):
    return [json.loads(line)["loss_denoise"] for line in (program.directory / run / "metrics.jsonl").read_text().splitlines()]


def start(program, output, *assignments, **options):
    return program.train("lora.init_from=first/adapter", "train.steps=1", *assignments, output=output, **options)


def strengthened(program, name, factor):
    """The adapter of two steps changes next to nothing: one with a larger B, whose strength shows in the loss."""
    directory = program.directory / name / "adapter"
    shutil.copytree(program.directory / "first/adapter", directory)
    path = directory / "pytorch_lora_weights.safetensors"
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = {key: value * (factor if "lora_B" in key else 1) for key, value in load_file(path).items()}
    save_file(tensors, path, metadata)
    return f"{name}/adapter"


def test_step_0_is_the_adapter(program, first):
    """The first step's denoising loss is that of the adapter, whatever rank and strength the run has."""
    strong = strengthened(program, "strong", 1000)
    start(program, "same", f"lora.init_from={strong}")
    start(program, "wider", f"lora.init_from={strong}", "lora.rank=40", "lora.alpha=5", "lora.rslora=true")
    program.run("export", "--checkpoint", strong, "--format", "kohya", "--out", "kohya", "-q")
    start(program, "foreign", "lora.init_from=kohya")
    start(program, "weaker", f"lora.init_from={strengthened(program, 'weak', 800)}")
    program.train("train.steps=1", output="fresh")
    losses = {run: steps(program, run)[0] for run in ("same", "wider", "foreign", "weaker", "fresh")}
    assert losses["foreign"] == losses["same"]
    assert losses["wider"] == pytest.approx(losses["same"], rel=1e-5)
    for run in ("weaker", "fresh"):
        assert losses[run] != pytest.approx(losses["same"], rel=1e-4), run
    assert "started from strong/adapter" in (program.directory / "same/log.txt").read_text()
    assert "| started from | `adapter` |" in (program.directory / "same/adapter/README.md").read_text()


def test_a_resumed_run_has_its_checkpoint(program, first):
    """Resumed after its first step with another adapter to start from, a run ends as if it had not stopped."""
    settings = ("train.steps=2", "checkpoint.every_steps=1")
    start(program, "uninterrupted", *settings)
    shutil.copytree(program.directory / "uninterrupted", program.directory / "resumed", symlinks=True)
    shutil.rmtree(program.directory / "resumed/checkpoints/step-00000002")
    program.train("train.steps=1", "train.seed=5", output="another")
    start(program, "resumed", *settings, "lora.init_from=another/adapter", resume="auto")

    def trained(run, step):
        return load_file(program.directory / run / f"checkpoints/step-0000000{step}/adapter.safetensors")

    wanted, found, before = trained("uninterrupted", 2), trained("resumed", 2), trained("resumed", 1)
    assert sorted(found) == sorted(wanted)
    assert [key for key in wanted if not torch.equal(found[key], wanted[key])] == []
    assert any(not torch.equal(found[key], before[key]) for key in found)


def test_what_does_not_fit_is_refused_before_anything_runs(program, first):
    def faults(*assignments):
        return program.train_faults("lora.init_from=first/adapter", *assignments, output="never", code=2)

    assert faults("lora.rank=8")[0].startswith("lora.rank: 8 is less than the rank 32 of first/adapter")
    assert all(line.startswith("lora.blocks: does not name transformer_blocks.7") for line in faults(
        "lora.blocks=[0,1,2,3,4,5,6]"))  # fmt: skip
    assert faults("lora.input_projection=lora")[0].startswith('lora.input_projection: "lora" cannot start from first/adapter')
    lines = program.train_faults("lora.init_from=nowhere", output="never", code=1)
    assert len(lines) == 1 and "nowhere" in lines[0]
    tensors = {"lora_unet_x.lora_down.weight": load_file(first / "adapter/pytorch_lora_weights.safetensors").popitem()[1]}
    save_file(tensors, program.directory / "odd.safetensors")
    assert "lora_unet_x.lora_down.weight" in program.train_faults("lora.init_from=odd.safetensors", output="never", code=1)[0]
