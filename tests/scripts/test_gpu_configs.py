"""The run files for several GPUs: the paper's run, with one global batch, whatever it is split over."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("MATRIX")
PROCESSES = {"5b-i2v-1gpu": 1, "5b-i2v-4gpu": 4, "5b-i2v-8gpu": 8, "5b-i2v-8gpu-24gb": 8, "5b-i2v-8gpu-context4": 8,
             "5b-i2v-2x8gpu": 16}


def read(name: str) -> dict:
    return json.loads((REPO / "configs" / f"{name}.json").read_text())


def merged(base: dict, over: dict) -> dict:
    return base | {key: merged(base[key], value) if isinstance(value, dict) else value for key, value in over.items()}


def leaves(section: dict, path: str = "") -> dict:
    found = {}
    for name, value in section.items():
        found |= leaves(value, f"{path}{name}.") if isinstance(value, dict) else {path + name: value}
    return found


def test_every_run_file_is_covered_here_and_on_the_page():
    assert {path.stem for path in (REPO / "configs").glob("5b-*.json")} == set(PROCESSES)
    table = re.findall(r"^\| `(5b-[\w-]+)\.json` \| (\S+) \|", (REPO / "docs/presets.md").read_text(), re.M)
    assert {name: eval(gpus.replace("x", "*")) for name, gpus in table} == PROCESSES


@pytest.mark.parametrize("name", PROCESSES)
def test_same_run_with_the_same_global_batch(name):
    paper = read("matrix-5b-i2v")
    run = merged(paper, read(name))
    train, parallel = run["train"], run["parallel"]
    replicas = PROCESSES[name] // parallel["context"]
    assert train["batch_size"] * train["gradient_accumulation"] * replicas == 8
    here, there = leaves(run), leaves(paper)
    different = {key for key in here if here[key] != there.get(key)}
    assert different <= {"train.gradient_accumulation", "parallel.context", "parallel.shard_base", "output"}
    assert run["output"] == f"runs/{name}"


@pytest.mark.skipif(not PROGRAM, reason="MATRIX does not name the program")
@pytest.mark.parametrize("name", PROCESSES)
def test_program_takes_it(name, tmp_path):
    subprocess.run([PROGRAM, "init", "--preset", "5b-i2v", "--config-only", "--out", tmp_path / "model"], check=True)
    # Where a launcher would have started that many processes.
    group = {"RANK": "0", "WORLD_SIZE": str(PROCESSES[name]), "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    plan = subprocess.run([PROGRAM, "train", "--config", REPO / f"configs/{name}.json", "--dry-run", "--set",
                           f"model.path={tmp_path}/model"], env=os.environ | group, capture_output=True, text=True)
    assert plan.returncode == 0, plan.stderr
    assert "total" in plan.stdout
