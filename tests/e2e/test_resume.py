"""A run that is killed and resumed has the bits of one that never was."""

import json
import random
import shutil
import time

import pytest
from training import assert_same_run, contents, metrics


def whole_lines(run):
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_and_resumed_has_the_same_bits(program, whole_run, tmp_path, seed):
    draw = random.Random(seed)
    run, reached = tmp_path / "run", []
    for count in sorted(draw.sample(range(1, 8), 4)):
        process = program.start_training(output=run, resume="auto")
        while process.poll() is None and whole_lines(run) < count:
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.05))
        process.kill()
        process.communicate()
        reached.append(whole_lines(run))
    program.train(output=run, resume="auto")
    assert_same_run(run, whole_run)
    assert min(reached) < 8, "never killed in the middle"


def test_killed_at_every_kind_of_place(program, whole_run, tmp_path):
    """What kills leave: a torn line, later lines, an unfinished checkpoint, and one being deleted."""
    run = tmp_path / "run"
    shutil.copytree(whole_run, run)
    checkpoints = run / "checkpoints"
    shutil.copytree(checkpoints / "step-00000006", checkpoints / "step-00000009.tmp.1.0")
    (checkpoints / "step-00000008/state.json").unlink()
    shutil.rmtree(run / "adapter")
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 9, "lo')
    result = program.train(output=run, resume="auto")
    assert "resuming from" in result.stdout and "at step 6" in result.stdout
    assert_same_run(run, whole_run)


def test_a_finished_run_resumes_to_itself(program, whole_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole_run, run)
    program.train(output=run, resume="auto")
    assert_same_run(run, whole_run)


def test_an_earlier_checkpoint_begins_again_from_there(program, whole_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole_run, run)
    result = program.train(output=run, resume=run / "checkpoints/step-00000006")
    assert "deleted 1 checkpoints of steps after 6" in result.stderr
    assert_same_run(run, whole_run)


def test_another_output_continues_a_checkpoint(program, whole_run, tmp_path):
    run = tmp_path / "run"
    before = contents(whole_run)
    program.train(output=run, resume=whole_run / "checkpoints/step-00000006")
    assert metrics(run) == metrics(whole_run)[6:]
    assert contents(run / "adapter") == contents(whole_run / "adapter")
    assert contents(whole_run) == before


def test_products_in_float8_resume_to_the_same_bits(program, whole_run, tmp_path):
    fp8 = ("memory.base=fp8", "memory.fp8_matmul=true")
    program.train(*fp8, output=tmp_path / "whole")
    program.train(*fp8, output=tmp_path / "rest", resume=tmp_path / "whole/checkpoints/step-00000006")
    whole = metrics(tmp_path / "whole")
    assert metrics(tmp_path / "rest") == whole[6:]
    assert contents(tmp_path / "rest/adapter") == contents(tmp_path / "whole/adapter")
    program.train("memory.base=fp8", "train.steps=1", output=tmp_path / "widened")
    assert metrics(tmp_path / "widened")[0]["loss"] != whole[0]["loss"]
    for here, there in zip(whole, metrics(whole_run)):
        assert here["loss"] != there["loss"] and here["loss"] == pytest.approx(there["loss"], rel=0.1)


def test_an_existing_run_is_not_started_over(program, whole_run):
    before = contents(whole_run)
    [line] = program.train_faults(output=whole_run, code=2)
    assert f"output: {whole_run} already holds a run" in line and "--resume auto" in line
    assert contents(whole_run) == before


def test_two_processes_do_not_share_a_run(program, tmp_path):
    run = tmp_path / "run"
    first = program.start_training("train.steps=1000", output=run)
    try:
        deadline = time.monotonic() + 60
        while not metrics(run):
            assert first.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        [line] = program.train_faults(output=run, resume="auto", code=1)
        assert f"{run}: another process has a run going on here" in line
    finally:
        first.kill()
        first.communicate()
    # The lock ends with the process, however that ends.
    program.train("train.steps=1", output=run, resume="auto")


def test_checkpoints_alone_are_a_run_too(program, whole_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole_run, run)
    (run / "metrics.jsonl").unlink()
    before = contents(run)
    [line] = program.train_faults(output=run, code=2)
    assert "already holds a run" in line
    assert contents(run) == before


def test_another_run_is_not_overwritten_by_a_resumed_one(program, whole_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole_run, run)
    before = contents(run)
    [line] = program.train_faults(output=run, resume=whole_run / "checkpoints/step-00000006", code=2)
    assert f"output: {run} already holds another run" in line
    assert contents(run) == before


def state_without_log(run):
    return {name: content for name, content in contents(run).items() if name != "log.txt"}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("lora.rank=4", "lora.rank: {rank} before, 4 now"),
        ("lora.alpha=3", "lora.alpha: {alpha:.1f} before, 3.0 now"),
        ("alignment.spa=null", "alignment.spa: "),
    ],
)
def test_a_changed_configuration_does_not_resume(program, whole_run, tmp_path, assignment, message):
    run = tmp_path / "run"
    shutil.copytree(whole_run, run)
    before = state_without_log(run)
    [line] = program.train_faults(assignment, output=run, resume="auto", code=2)
    assert "step-00000008" in line and message.format(**program.config["lora"]) in line
    assert state_without_log(run) == before, "config.json or metrics.jsonl changed"


@pytest.mark.parametrize("name", ["adapter.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "absent"])
def test_a_damaged_checkpoint_is_named(program, whole_run, tmp_path, name, damage):
    run = tmp_path / "run"
    shutil.copytree(whole_run, run)
    path = run / "checkpoints/step-00000008" / name
    content = path.read_bytes()
    path.unlink()
    if damage != "absent":
        path.write_bytes(content[: len(content) * 2 // 3] if damage == "truncated" else b"")
    before = state_without_log(run)
    [line] = program.train_faults(output=run, resume=path.parent, code=1)
    assert str(path.parent) in line and name in line
    assert state_without_log(run) == before


def test_nan_in_a_checkpoint_is_named(program, whole_run, tmp_path):
    from safetensors import safe_open
    from safetensors.numpy import save_file

    run = tmp_path / "run"
    shutil.copytree(whole_run, run)
    path = run / "checkpoints/step-00000006/adapter.safetensors"
    with safe_open(path, "np") as file:
        tensors, header = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
    name = "transformer.patch_embed.proj.bias"
    tensors[name] = tensors[name] * float("nan")
    save_file(tensors, path, header)
    lines = program.train_faults(output=run, resume=path.parent, code=1)
    assert name in lines[-1] and "not finite" in lines[-1]
    assert metrics(run) == metrics(whole_run), "a refused run was cut back"


def test_state_names_the_next_sample(whole_run):
    state = json.loads((whole_run / "checkpoints/step-00000006/state.json").read_text())
    assert (state["step"], state["next_sample"], state["global_batch"]) == (6, 6, 1)


def test_what_changed_is_said(program, whole_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole_run, run)
    result = program.train("train.steps=9", "checkpoint.keep_last=1", output=run, resume="auto")
    assert "changed since the checkpoint: train.steps: 8 before, 9 now" in result.stdout
    assert "changed since the checkpoint: checkpoint.keep_last: 2 before, 1 now" in result.stdout
    changes = [line for line in result.stdout.splitlines() if "changed since" in line]
    assert len(changes) == 2 and not any("output" in line for line in changes)
