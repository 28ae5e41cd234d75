"""benchmarks/gpu.sh, as far as it goes without a GPU: in a copy of its own, with stand-ins for what it runs."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest

REPO = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def clone(tmp_path):
    """A directory with gpu.sh, and `tools` in front of PATH."""
    (tmp_path / "benchmarks").mkdir()
    shutil.copy(REPO / "benchmarks/gpu.sh", tmp_path / "benchmarks")
    (tmp_path / "tools").mkdir()
    return tmp_path


def stand_in(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def run(clone, *arguments):
    return subprocess.run(
        [clone / "benchmarks/gpu.sh", *arguments],
        env=os.environ | {"PATH": f"{clone / 'tools'}:{os.environ['PATH']}", "PYTHON": "no-such-python"},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("answer", ["exit 127", "echo 'No devices were found'"])
def test_without_a_gpu_it_says_so_in_one_line(clone, answer):
    stand_in(clone / "tools/nvidia-smi", answer)
    done = run(clone)
    assert done.returncode == 1
    assert done.stderr == "benchmarks/gpu.sh: no NVIDIA GPU here: nvidia-smi finds none\n"
    assert done.stdout == ""
    assert not (clone / "benchmarks/results").exists()


def test_an_unknown_stage_is_a_usage_error(clone):
    done = run(clone, "speed")
    assert done.returncode == 2
    assert done.stderr.startswith("usage: benchmarks/gpu.sh")


def test_a_stage_keeps_every_result_and_every_failure(clone):
    stand_in(clone / "tools/nvidia-smi", "echo 'GPU 0: one'")
    stand_in(
        clone / "build/cuda/bin/matrix",
        'case "$*" in *float32*) echo "error: \\"no\\" room" >&2; exit 1;; *) echo "{\\"seconds\\": 1}";; esac',
    )
    done = run(clone, "rates")
    assert done.returncode == 0, done.stderr
    (file,) = (clone / "benchmarks/results/gpu").glob("*-rates.json")
    assert json.loads(file.read_text()) == [
        {"what": "attention, bfloat16", "exit": 0, "result": {"seconds": 1}},
        {"what": "attention, float32", "exit": 1, "result": "error: no room"},
        {"what": "forward, bfloat16", "exit": 0, "result": {"seconds": 1}},
        {"what": "VAE, bfloat16", "exit": 0, "result": {"seconds": 1}},
        {"what": "SGA + SPA on a block", "exit": 0, "result": {"seconds": 1}},
    ]


def test_training_keeps_each_runs_last_line(clone):
    stand_in(clone / "tools/nvidia-smi", "echo 'GPU 0: one'")
    stand_in(
        clone / "build/cuda/bin/matrix",
        """for a; do case "$a" in --set=output=*) run=${a#--set=output=};; esac; done
        case "$*" in *bfloat16*) echo "error: diverged" >&2; exit 1;; esac
        mkdir "$run"; echo '{"step": 1}' >"$run/metrics.jsonl"; echo '{"step": 2}' >>"$run/metrics.jsonl"; echo a line""",
    )
    done = run(clone, "train")
    assert done.returncode == 0, done.stderr
    (file,) = (clone / "benchmarks/results/gpu").glob("*-train.json")
    assert json.loads(file.read_text()) == [
        {"what": "demo, float32", "exit": 0, "result": {"step": 2}},
        {"what": "demo, bfloat16", "exit": 1, "result": "error: diverged"},
    ]


def test_a_failing_check_and_a_missing_python_end_it(clone):
    stand_in(clone / "tools/nvidia-smi", "echo 'GPU 0: one'")
    stand_in(clone / "build/cuda/bin/kernels_test", "exit 0")
    stand_in(clone / "build/cuda/bin/train_test", "exit 3")
    done = run(clone, "check", "rates")
    assert done.returncode == 1
    assert "check: train_test --gtest_filter=HostSync.*:Trajectory.* fails" in done.stderr
    assert not (clone / "benchmarks/results").exists()
    done = run(clone, "peer")
    assert done.returncode == 1
    assert "no-such-python has no torch, diffusers and peft" in done.stderr
    done = run(clone, "parity")
    assert done.returncode == 1
    assert "parity: a test fails" in done.stderr
