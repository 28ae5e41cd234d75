"""Bad nights: whatever happens to a rank, the run goes on from its last checkpoint to the bits it would have had.

MATRIX_FAULTS sets how often a rank is killed (4; scripts/fault_test.sh: 20)."""

import os
import random
import resource
import shutil
import signal
import time

import pytest
from ranks import Ranks, run_ranks
from training import assert_same_run, metrics

WORLD = 2
CONFIG = ("train.steps=12", "checkpoint.every_steps=2", "validation.every_steps=6", "parallel.timeout_seconds=20")
KILLS = int(os.environ.get("MATRIX_FAULTS", "4"))


def arguments(program, run, *more):
    return program.train_arguments(*CONFIG, *more, output=run, resume="auto")


@pytest.fixture(scope="module")
def undisturbed(program, tmp_path_factory):
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    run_ranks(program, WORLD, arguments(program, run))
    return run


def wait_until(ranks, condition, timeout=60):
    """Until the condition holds or a rank has ended; whether it holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if any(process.poll() is not None for process in ranks.processes):
            return False
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return True


def writes_checkpoint(run):
    return any(".tmp." in path.name for path in (run / "checkpoints").glob("step-*"))


def disturb(program, run, draw, in_checkpoint):
    """Kills one rank somewhere; the others must end by themselves and name it. Whether it was killed in time."""
    victim, goal = draw.randrange(WORLD), len(metrics(run)) + draw.randrange(0, 4)
    with Ranks(program.directory, arguments(program, run), WORLD) as ranks:
        reached = wait_until(ranks, lambda: writes_checkpoint(run) if in_checkpoint else len(metrics(run)) >= goal)
        if not in_checkpoint:
            time.sleep(draw.uniform(0, 0.2))
        ranks.kill(victim)
        results = ranks.wait(60)
    for rank, result in enumerate(results):
        if rank != victim and result.returncode != 0:
            assert result.returncode == 1, result.stderr
            assert f"rank {victim}" in result.stderr, result.stderr
    return reached and results[victim].returncode == -signal.SIGKILL


def test_killed_ranks_cost_no_bit(program, undisturbed, tmp_path):
    draw, run, killed = random.Random(KILLS), tmp_path / "run", 0
    for attempt in range(3 * KILLS):
        if killed == KILLS:
            break
        if (run / "adapter").exists():
            shutil.rmtree(run)  # it got to its end: again from the start
        killed += disturb(program, run, draw, in_checkpoint=attempt % 2 == 1)
    assert killed == KILLS
    run_ranks(program, WORLD, arguments(program, run))
    assert_same_run(run, undisturbed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=["SIGTERM", "SIGUSR1"])
@pytest.mark.parametrize("victim", range(WORLD))
def test_a_signal_to_one_rank_saves_on_all(program, undisturbed, tmp_path, victim, number):
    run = tmp_path / "run"
    with Ranks(program.directory, arguments(program, run), WORLD) as ranks:
        assert wait_until(ranks, lambda: len(metrics(run)) >= 1)
        ranks.kill(victim, number)
        results = ranks.wait(60)
    assert [result.returncode for result in results] == [128 + number] * WORLD, results
    done = len(metrics(run))
    assert 1 <= done < 12
    assert (run / f"checkpoints/step-{done:08}/state.json").exists()
    run_ranks(program, WORLD, arguments(program, run))
    assert metrics(run) == metrics(undisturbed)


def test_a_rank_that_hangs_is_named(program, tmp_path):
    run = tmp_path / "run"
    with Ranks(program.directory, arguments(program, run, "parallel.timeout_seconds=4"), WORLD) as ranks:
        assert wait_until(ranks, lambda: len(metrics(run)) >= 2)
        ranks.kill(1, signal.SIGSTOP)
        out, err = ranks.processes[0].communicate(timeout=30)
        assert ranks.processes[0].returncode == 1
    [line] = err.splitlines()[-1:]
    assert "rank 1" in line and "--resume auto" in line


@pytest.mark.parametrize("name", ["adapter.safetensors", "optimizer.safetensors", "state.json"])
def test_a_damaged_newest_checkpoint_is_passed_over(program, undisturbed, tmp_path, name):
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    path = run / "checkpoints/step-00000012" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    results = run_ranks(program, WORLD, arguments(program, run))
    assert "step-00000012" in results[0].stderr and "step-00000010" in results[0].stderr
    assert "at step 10" in results[0].stdout
    assert_same_run(run, undisturbed)


def test_a_full_disk_leaves_the_last_checkpoint(program, undisturbed, tmp_path):
    run = tmp_path / "run"
    run_ranks(program, WORLD, arguments(program, run, "train.steps=2", "schedule.warmup_steps=1"))
    shutil.rmtree(run / "adapter")
    before = sorted(path.name for path in (run / "checkpoints").iterdir())

    def limit(rank):
        if rank == 0:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    with Ranks(program.directory, arguments(program, run, "schedule.warmup_steps=1"), WORLD, before_start=limit) as ranks:
        results = ranks.wait(60)
    assert [result.returncode for result in results] == [1] * WORLD
    assert "cannot write" in results[0].stderr or "too large" in results[0].stderr.lower(), results[0].stderr
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == before
    run_ranks(program, WORLD, arguments(program, run, "schedule.warmup_steps=1"))
    assert len(metrics(run)) == 12
