"""SIGINT and SIGTERM: the step is finished, the state saved, and the exit code says which signal it was."""

import signal
import time

import pytest
from training import metrics


def wait_for_step(process, run, step):
    deadline = time.monotonic() + 60
    while len(metrics(run)) < step:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_saves_at_the_boundary_and_resumes_to_the_same_bits(program, whole_run, tmp_path, number, code):
    run = tmp_path / "run"
    process = program.start_training(output=run)
    wait_for_step(process, run, 1)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, out + err
    done = len(metrics(run))
    assert 1 <= done < 8
    assert f"stopped by signal {int(number)} after step {done}" in out
    assert (run / f"checkpoints/step-{done:08}/state.json").exists()
    assert not (run / "adapter").exists()
    program.train(output=run, resume="auto")
    assert metrics(run) == metrics(whole_run)
    # The checkpoint of the boundary may have pushed out another one; the last is the same.
    for part in ("checkpoints/step-00000008", "adapter"):
        for path in (whole_run / part).iterdir():
            assert (run / part / path.name).read_bytes() == path.read_bytes(), path


def test_between_signal_and_step_nothing_is_lost(program, whole_run, tmp_path):
    """Stopped again and again, with a checkpoint after every stop."""
    run = tmp_path / "run"
    for _ in range(3):
        before = len(metrics(run))
        process = program.start_training("checkpoint.every_steps=0", output=run, resume="auto")
        wait_for_step(process, run, before + 1)
        process.terminate()
        process.communicate(timeout=60)
        if process.returncode == 0:
            break
        assert process.returncode == 143
        assert (run / f"checkpoints/step-{len(metrics(run)):08}/state.json").exists()
    program.train("checkpoint.every_steps=0", output=run, resume="auto")
    assert metrics(run) == metrics(whole_run)


def test_a_signal_sent_twice_is_one(program, tmp_path):
    """As timeout(1) sends it, to its child and to the child's group."""
    run = tmp_path / "run"
    process = program.start_training("train.steps=1000", "checkpoint.every_steps=0", output=run)
    wait_for_step(process, run, 1)
    process.terminate()
    time.sleep(0.05)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert (run / f"checkpoints/step-{len(metrics(run)):08}/state.json").exists()


def test_a_second_signal_ends_it_at_once(program, tmp_path):
    run = tmp_path / "run"
    process = program.start_training("train.steps=1000", "train.gradient_accumulation=24", output=run)
    wait_for_step(process, run, 1)
    process.terminate()
    time.sleep(0.7)  # within a step of several seconds
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert len(metrics(run)) == 1 and not (run / "checkpoints").exists()
