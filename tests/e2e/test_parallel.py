"""A result depends on the global batch, not on how it is split: over processes, accumulated micro-batches, replicas that
share a clip's sequence, or a base of which every process keeps a share."""

import json
import pathlib
import shutil
import subprocess
import sys
import time

import pytest
from ranks import Ranks, run_ranks
from training import ENVIRONMENT, MATRIX, Program, contents, metrics

STEPS = 20
GLOBAL_BATCH = 4
CONFIG = (f"train.steps={STEPS}", "optimizer.learning_rate=1e-3", "schedule.warmup_steps=5", "validation.every_steps=10")


@pytest.fixture(scope="session")
def uneven(program, tmp_path_factory) -> Program:
    """Five clips for a global batch of four, one of them without interactions."""
    directory = tmp_path_factory.mktemp("uneven")
    other = Program(directory)
    other.run("synth", "--out", "data", "--clips", "5", "--seed", "3", "-q")
    rows = [json.loads(line) for line in (directory / "data/metadata.jsonl").read_text().splitlines()]
    del rows[1]["interactions"]
    (directory / "data/metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shutil.copytree(program.directory / "model", directory / "model")
    shutil.copy(program.directory / "run.json", directory)
    other.run("prepare", "--config", "run.json", "-q")
    return Program(directory)


def train(program, output, world=1, accumulation=1, context=1, shard=False):
    batch = GLOBAL_BATCH * context // (world * accumulation)
    assignments = [*CONFIG, f"train.batch_size={batch}", f"train.gradient_accumulation={accumulation}"]
    assignments += [f"parallel.context={context}", f"parallel.shard_base={json.dumps(shard)}"]
    run_ranks(program, world, program.train_arguments(*assignments, output=output))
    return program.directory / output


@pytest.fixture(scope="session")
def plain(uneven):
    return train(uneven, "plain")


def trained_tensors(run):
    from safetensors.numpy import load_file

    return load_file(run / f"checkpoints/step-{STEPS:08}/adapter.safetensors")


def assert_same_course(run, expected):
    """Equal but for the order of float32 sums: losses to 1e-6 relative, trained tensors to 2e-6 by norm."""
    import numpy

    records, wanted = metrics(run), metrics(expected)
    assert len(records) == len(wanted) == STEPS
    for actual, record in zip(records, wanted):
        for name, value in record.items():
            if name.startswith("loss"):
                assert actual[name] == pytest.approx(value, rel=1e-6), (record["step"], name)
            elif name.endswith(("_counted", "_skipped", "_dropped")):
                assert actual[name] == value, (record["step"], name)
        assert ("validation" in actual) == ("validation" in record)
        if "validation" in record:
            assert actual["validation"]["train"]["loss_denoise"] == pytest.approx(
                record["validation"]["train"]["loss_denoise"], rel=1e-6
            )
    actual, tensors = trained_tensors(run), trained_tensors(expected)
    assert actual.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert numpy.linalg.norm(actual[name] - tensor) <= 2e-6 * numpy.linalg.norm(tensor), name


def name_of(split):
    return "-".join(f"{name}{value}" for name, value in split.items())


@pytest.mark.parametrize(
    "split",
    [
        {"accumulation": 4},
        {"world": 2},
        {"world": 2, "accumulation": 2},
        {"world": 4},
        {"world": 2, "shard": True},
        {"world": 2, "context": 2},
        {"world": 4, "context": 2, "shard": True},
        {"world": 4, "context": 4},
    ],
    ids=name_of,
)
def test_a_split_run_is_the_plain_run(uneven, plain, split):
    assert_same_course(train(uneven, name_of(split), **split), plain)


def test_torchrun_and_its_agent_store(uneven, plain):
    torchrun = pathlib.Path(sys.executable).with_name("torchrun")
    command = [torchrun, "--no-python", "--standalone", "--nproc_per_node=2", MATRIX]
    assignments = [*CONFIG, f"train.batch_size={GLOBAL_BATCH // 2}"]
    result = subprocess.run(
        [*command, *uneven.train_arguments(*assignments, output="torchrun")],
        cwd=uneven.directory, env=ENVIRONMENT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert_same_course(uneven.directory / "torchrun", plain)


def test_only_rank_0_writes_to_the_terminal(uneven):
    arguments = uneven.train_arguments(*CONFIG, "train.steps=2", "schedule.warmup_steps=1", output="terminal")
    results = run_ranks(uneven, 2, arguments)
    assert "adapter written" in results[0].stdout
    # c10d's own words about its sockets aside.
    assert [results[1].stdout, *filter(lambda line: "[c10d]" not in line, results[1].stderr.splitlines())] == [""]
    run = uneven.directory / "terminal"
    assert " rank 0 info " in (run / "log.txt").read_text()
    assert " rank 1 info " in (run / "log-rank-1.txt").read_text()


def test_prepare_shares_the_clips(uneven, tmp_path):
    arguments = ["prepare", "--config", "run.json", "-q", "--set"]
    uneven.run(*arguments, f"data.cache={tmp_path}/one")
    run_ranks(uneven, 3, [*arguments, f"data.cache={tmp_path}/three"])
    alone, together = contents(tmp_path / "one"), contents(tmp_path / "three")
    assert sorted(alone) == sorted(together)
    hashes = {name for name in alone if alone[name] != together[name]}
    assert all("hash" in name for name in hashes), hashes  # which hold times
    uneven.run("prepare", "--verify", "--config", "run.json", "--set", f"data.cache={tmp_path}/three")


@pytest.mark.parametrize(
    ("world", "assignment", "message"),
    [
        (1, "parallel.context=3", "parallel.context: the model's 4 attention heads do not divide among 3 ranks"),
        (3, "parallel.context=2", "parallel.context: 3 processes do not divide into replicas of 2"),
        (1, "parallel.backend=nccl", "parallel.backend"),
        (1, "parallel.backend=mpi", "parallel.backend"),
        (2, "output=whole", "output: whole already holds a run"),
    ],
)
def test_refuses_on_every_rank(program, whole_run, world, assignment, message):
    before = contents(whole_run)
    arguments = [*program.train_arguments(output="refused"), "--set", assignment]
    for rank, result in enumerate(run_ranks(program, world, arguments, code=2)):
        [line] = [line for line in result.stderr.splitlines() if line.startswith("matrix: ")]
        assert message in line and (rank == 0 or line.startswith(f"matrix: rank {rank}: "))
    assert not (program.directory / "refused").exists() and contents(whole_run) == before


@pytest.mark.parametrize("base", ["streamed", "fp8"])
def test_a_sharded_base_is_held_in_no_other_way(program, base):
    faults = program.train_faults("parallel.shard_base=true", f"memory.base={base}", output="refused", code=2)
    assert len(faults) == 1 and "parallel.shard_base" in faults[0] and "memory.base" in faults[0]


def test_a_rank_with_another_configuration_is_named(program, tmp_path):
    """As where one node has an older copy of the run file."""
    of_rank = [
        program.train_arguments(*assignments, output=tmp_path / "run") for assignments in [(), ("optimizer.eps=1e-7",)]
    ]
    with Ranks(program.directory, of_rank, 2) as ranks:
        results = ranks.wait(60)
    assert [result.returncode for result in results] == [1, 1]
    assert "rank 1" in results[0].stderr and "configuration" in results[0].stderr


@pytest.fixture(scope="session")
def half(uneven):
    """Two processes, ended after half of the steps; the curve of the learning rate is that of the whole run."""
    run = uneven.directory / "half"
    arguments = uneven.train_arguments(*CONFIG, "train.batch_size=2", "checkpoint.every_steps=10", output=run)
    with Ranks(uneven.directory, arguments, 2) as ranks:
        while not (run / "checkpoints/step-00000010").exists():
            assert all(process.poll() is None for process in ranks.processes)
            time.sleep(0.01)
        ranks.kill(1)
        ranks.wait(60)
    return run


@pytest.mark.parametrize(("world", "batch"), [(1, 4), (4, 1)])
def test_another_number_of_processes_goes_on(uneven, plain, half, tmp_path, world, batch):
    run = tmp_path / "run"
    shutil.copytree(half, run)
    resume = ("--resume", run / "checkpoints/step-00000010")
    arguments = [*uneven.train_arguments(*CONFIG, f"train.batch_size={batch}", output=run), *resume]
    results = run_ranks(uneven, world, arguments)
    assert "at step 10" in results[0].stdout
    assert_same_course(run, plain)


def test_another_global_batch_is_said(uneven, half, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(half, run)
    resume = ("--resume", run / "checkpoints/step-00000010")
    arguments = [*uneven.train_arguments(*CONFIG, "train.batch_size=1", "train.steps=12", output=run), *resume]
    results = run_ranks(uneven, 2, arguments)
    assert "the global batch was 4 clips at the checkpoint and is 2" in results[0].stderr
    assert "train.batch_size: 2 before, 1 now" in results[0].stdout
    state = json.loads((run / "checkpoints/step-00000012/state.json").read_text())
    assert state["next_sample"] == 10 * 4 + 2 * 2
