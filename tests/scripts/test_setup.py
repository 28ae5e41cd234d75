"""scripts/setup.sh: what it says and refuses, without installing anything."""

import os
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]


def setup(home: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home)}
    command = [REPO / "scripts/setup.sh", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)


def test_dry_run_writes_nothing(tmp_path):
    result = setup(tmp_path, "--dry-run", "--python", "--cuda")
    assert "would make a Python environment from third_party/python.txt" in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpu"], "unknown option --gpu"),
        (["--bundle"], "--bundle needs a path"),
        (["--bundle", "a", "--from", "b"], "--bundle and --from exclude each other"),
        (["--from", "a", "--python"], "--python needs a network"),
        (["--no-libtorch"], "--no-libtorch belongs to --bundle"),
    ],
)
def test_wrong_usage(tmp_path, arguments, message):
    result = setup(tmp_path, *arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_from_something_else_than_a_bundle(tmp_path):
    result = setup(tmp_path, "--from", str(tmp_path))
    assert result.returncode == 1
    assert "is not a bundle" in result.stderr


def test_wrong_wheel_is_refused(tmp_path):
    (tmp_path / "torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl").write_bytes(b"not it")
    command = [
        REPO / "scripts/unpack_libtorch.py",
        *("--wheels", tmp_path, "--to", tmp_path / "out"),
        *("--pins", REPO / "third_party/libtorch-cpu.txt"),
    ]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert "SHA-256 differs" in result.stderr
    assert not (tmp_path / "out").exists()
