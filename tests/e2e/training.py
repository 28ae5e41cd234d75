"""A tiny model, four clips and their cache, made once; and how to run the program on them."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest

REPO = pathlib.Path(__file__).resolve().parents[2]
MATRIX = pathlib.Path(os.environ.get("MATRIX", REPO / "build/release/bin/matrix"))
# Idle OpenMP threads spin; and "the same bits" is a promise for the same number of threads.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


class Program:
    def __init__(self, directory: pathlib.Path):
        self.directory = directory
        self.config = json.loads((directory / "run.json").read_text()) if (directory / "run.json").exists() else {}

    def start(self, *arguments, **options) -> subprocess.Popen:
        command = [MATRIX, *map(str, arguments)]
        return subprocess.Popen(
            command, cwd=self.directory, env=ENVIRONMENT, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
        )  # fmt: skip

    def run(self, *arguments, code=0, **options) -> subprocess.CompletedProcess:
        process = self.start(*arguments, **options)
        try:
            out, err = process.communicate(timeout=120)
        finally:
            process.kill()
        assert process.returncode == code, f"exit {process.returncode}, not {code}\n{out}\n{err}"
        return subprocess.CompletedProcess(process.args, code, out, err)

    @staticmethod
    def train_arguments(*assignments, output, **flags):
        arguments = ["train", "--config", "run.json", "--set", f"output={output}"]
        for assignment in assignments:
            arguments += ["--set", assignment]
        for name, value in flags.items():
            arguments += [f"--{name}", value]
        return arguments

    def train(self, *assignments, output, code=0, resume=None, **options) -> subprocess.CompletedProcess:
        flags = {} if resume is None else {"resume": resume}
        return self.run(*self.train_arguments(*assignments, output=output, **flags), code=code, **options)

    def start_training(self, *assignments, output, resume=None) -> subprocess.Popen:
        flags = {} if resume is None else {"resume": resume}
        return self.start(*self.train_arguments(*assignments, output=output, **flags))

    def faults(self, *arguments, code, **options) -> list[str]:
        """The lines on stderr of a run that fails before it has anything to say."""
        lines = self.run(*arguments, code=code, **options).stderr.splitlines()
        for line in lines:
            assert line.startswith("matrix: "), line
        return [line.removeprefix("matrix: ") for line in lines]

    def train_faults(self, *assignments, output, code, resume=None, **options) -> list[str]:
        flags = {} if resume is None else {"resume": resume}
        return self.faults(*self.train_arguments(*assignments, output=output, **flags), "-q", code=code, **options)


@pytest.fixture(scope="session")
def program(tmp_path_factory) -> Program:
    """model/, data/, cache/ and run.json (eight steps of one clip, dropouts and validation on)."""
    assert MATRIX.exists(), f"{MATRIX}: build it, or name another program in MATRIX"
    directory = tmp_path_factory.mktemp("e2e")
    program = Program(directory)
    program.run("init", "--preset", "tiny", "--out", "model", "-q")
    program.run("synth", "--out", "data", "--clips", "4", "-q")
    config = json.loads((directory / "model/run.json").read_text())
    config["data"] |= {"path": "data", "cache": "cache", "image_noise_draws": 2}
    config["data"] |= {"image_dropout": 0.2, "caption_dropout": 0.2, "id_map_dropout": 0.2}
    config["train"] |= {"steps": 8, "batch_size": 1}
    config["schedule"]["warmup_steps"] = 2
    config["checkpoint"] = {"every_steps": 3, "keep_last": 2}
    config["validation"]["every_steps"] = 4
    (directory / "run.json").write_text(json.dumps(config))
    program.run("prepare", "--config", "run.json", "-q")
    return Program(directory)


@pytest.fixture(scope="session")
def whole_run(program) -> pathlib.Path:
    """The run directory of eight uninterrupted steps."""
    program.train(output="whole")
    return program.directory / "whole"


@pytest.fixture
def other(program, tmp_path) -> Program:
    """The same in a directory of its own, whose files may be replaced (not written into: they are hard links)."""
    for name in ("model", "data", "cache", "run.json"):
        source = program.directory / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, copy_function=os.link)
        else:
            shutil.copy(source, tmp_path / name)
    return Program(tmp_path)


def replace(path: pathlib.Path, content: bytes):
    """Other content under this name, whoever else links to the old one."""
    path.unlink()
    path.write_bytes(content)


def contents(directory: pathlib.Path) -> dict:
    """Every file below a directory, by its relative path."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def metrics(run: pathlib.Path) -> list[dict]:
    """metrics.jsonl without times."""
    path = run / "metrics.jsonl"
    if not path.exists():
        return []
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        del record["step_seconds"], record["data_seconds"]
    return records


def assert_same_run(actual: pathlib.Path, expected: pathlib.Path):
    """The same bits in weights, optimizer, adapter and metrics; and nothing unfinished left."""
    assert metrics(actual) == metrics(expected)
    for part in ("checkpoints", "adapter"):
        found, wanted = contents(actual / part), contents(expected / part)
        assert sorted(found) == sorted(wanted)
        assert [name for name in wanted if found[name] != wanted[name]] == []
