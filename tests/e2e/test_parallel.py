"""A result depends on the global batch, not on how it is split: over processes, accumulated micro-batches, replicas that
share a clip's sequence, or a base of which every process keeps a share."""

import json
import shutil

import pytest
from ranks import run_ranks
from training import Program, metrics

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
