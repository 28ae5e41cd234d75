"""What the tests of the whole program share: the binary that MATRIX names, and a small model and data set."""

import os
import subprocess
from pathlib import Path

import pytest
from training import other, program, whole_run  # noqa: F401 (fixtures)

REPO = Path(__file__).resolve().parents[2]


class Matrix:
    """Runs the program; every line of stderr is one fault, so it is kept as a list."""

    def __init__(self, binary: str):
        self.binary = binary

    def __call__(self, *arguments, **environment) -> subprocess.CompletedProcess:
        command = [self.binary, *map(str, arguments)]
        env = os.environ | {"OMP_NUM_THREADS": "1"} | environment
        result = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)
        result.faults = [line for line in result.stderr.splitlines() if line.startswith("matrix: ")]
        return result

    def good(self, *arguments, **environment) -> str:
        result = self(*arguments, **environment)
        assert result.returncode == 0, result.stderr
        return result.stdout


@pytest.fixture(scope="session")
def matrix() -> Matrix:
    binary = os.environ.get("MATRIX")
    if not binary:
        pytest.skip("MATRIX does not name the program")
    return Matrix(binary)


@pytest.fixture(scope="session")
def tiny_model(matrix, tmp_path_factory) -> Path:
    """Read only: tests that break it work on a copy."""
    model = tmp_path_factory.mktemp("tiny") / "model"
    matrix.good("init", "--preset", "tiny", "--out", model)
    return model


@pytest.fixture(scope="session")
def clips(matrix, tmp_path_factory) -> Path:
    """Two synthetic clips; read only."""
    data = tmp_path_factory.mktemp("clips") / "data"
    matrix.good("synth", "--out", data, "--clips", 2)
    return data
