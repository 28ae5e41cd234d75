#!/usr/bin/env python3
"""usage: benchmarks/scaling.py [--processes 2] [--steps 60] [--rounds 3] [DIR]

Data parallel training on CPUs: one process on one core against N processes on a core each, every process with the same
batch. Prints seconds a step (median over the steps after the first ten; of the rounds the median, the least and the most)
and the efficiency, one process's time over N processes' time: 100 % where N processes take N times the clips in the time
of one. The runs take turns, so that both see the same machine. Model, clips and cache are made in DIR (runs/scaling)."""

import argparse
import json
import os
import pathlib
import platform
import shutil
import socket
import statistics
import subprocess

REPO = pathlib.Path(__file__).resolve().parents[1]
MATRIX = pathlib.Path(os.environ.get("MATRIX", REPO / "build/release/bin/matrix"))
WARM_UP = 10


def prepare(directory):
    def run(*arguments):
        subprocess.run([MATRIX, *arguments, "-q"], cwd=directory, check=True)

    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / "model").exists():
        run("init", "--preset", "tiny", "--out", "model")
    if not (directory / "data").exists():
        run("synth", "--out", "data", "--clips", "8")
    config = json.loads((directory / "model/run.json").read_text())
    config["data"] |= {"path": "data", "cache": "cache"}
    config["checkpoint"]["every_steps"] = 0
    (directory / "run.json").write_text(json.dumps(config))
    run("prepare", "--config", "run.json")


def train(directory, processes, steps, batch):
    """Seconds of every step of process 0."""
    output = directory / "run"
    shutil.rmtree(output, ignore_errors=True)
    with socket.socket() as handle:
        handle.bind(("127.0.0.1", 0))
        port = handle.getsockname()[1]
    command = [MATRIX, "train", "--config", "run.json", "-q"]
    for setting in (f"output={output}", f"train.steps={steps}", f"train.batch_size={batch}", "schedule.warmup_steps=5"):
        command += ["--set", setting]
    started = []
    for rank in range(processes):
        variables = {"RANK": rank, "WORLD_SIZE": processes, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": processes}
        variables |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
        environment = os.environ | {name: str(value) for name, value in variables.items()}
        started.append(subprocess.Popen(["taskset", "-c", str(rank), *command], cwd=directory, env=environment))
    for process in started:
        if process.wait(600) != 0:
            raise SystemExit(f"a process ended with {process.returncode}")
    records = (output / "performance.jsonl").read_text().splitlines()
    return [json.loads(record)["step_seconds"] for record in records][WARM_UP:]


def cpu_name():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.machine()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", type=pathlib.Path, default=REPO / "runs/scaling")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=2)
    options = parser.parse_args()
    directory = options.directory.resolve()
    prepare(directory)
    seconds = {1: [], options.processes: []}
    for _ in range(options.rounds):
        for processes, medians in seconds.items():
            medians.append(statistics.median(train(directory, processes, options.steps, options.batch)))
    print(f"{cpu_name()}, one thread a process, batch {options.batch} a process, {options.rounds} rounds")
    for processes, medians in seconds.items():
        low, middle, high = min(medians), statistics.median(medians), max(medians)
        print(f"{processes} process(es): {middle:.4f} s a step ({low:.4f} to {high:.4f})")
    alone, together = (statistics.median(medians) for medians in seconds.values())
    print(f"efficiency {100 * alone / together:.1f} %")


if __name__ == "__main__":
    main()
