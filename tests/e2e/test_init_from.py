"""lora.init_from: a run that starts from an adapter."""

import json

import pytest
from safetensors.torch import load_file, save_file


@pytest.fixture(scope="module")
def first(program):
    program.train("train.steps=2", "checkpoint.every_steps=0", output="first", code=0)
    return program.directory / "first"


def steps(program, run):
    return [json.loads(line)["loss_denoise"] for line in (program.directory / run / "metrics.jsonl").read_text().splitlines()]


def start(program, output, *assignments, **options):
    return program.train("lora.init_from=first/adapter", "train.steps=1", *assignments, output=output, **options)


def test_step_0_is_the_adapter(program, first):
    """The first step's denoising loss is that of the adapter, whatever rank and strength the run has."""
    start(program, "same")
    start(program, "wider", "lora.rank=40", "lora.alpha=5", "lora.rslora=true")
    program.run("export", "--checkpoint", "first/adapter", "--format", "kohya", "--out", "kohya", "-q")
    start(program, "foreign", "lora.init_from=kohya")
    program.train("train.steps=1", output="fresh")
    losses = {run: steps(program, run)[0] for run in ("same", "wider", "foreign", "fresh")}
    assert losses["foreign"] == losses["same"]
    assert losses["wider"] == pytest.approx(losses["same"], rel=1e-5)
    assert abs(losses["fresh"] - losses["same"]) > 1e-5 * losses["same"]
    assert "started from first/adapter" in (program.directory / "same/log.txt").read_text()
    assert "| started from | `adapter` |" in (program.directory / "same/adapter/README.md").read_text()


def test_a_resumed_run_has_its_checkpoint(program, first):
    start(program, "resumed", "checkpoint.every_steps=1")
    before = load_file(program.directory / "resumed/checkpoints/step-00000001/adapter.safetensors")
    start(program, "resumed", "checkpoint.every_steps=1", "lora.init_from=nowhere", resume="auto")
    after = load_file(program.directory / "resumed/checkpoints/step-00000001/adapter.safetensors")
    assert all((before[key] == after[key]).all() for key in before)


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
