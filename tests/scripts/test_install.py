"""`cmake --install` makes a folder that runs wherever it is moved, with nothing of the build or the user around it."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
PROGRAM = Path(os.environ.get("MATRIX", REPO / "build/release/bin/matrix"))
BUILD = PROGRAM.parent.parent

pytestmark = pytest.mark.skipif(not (BUILD / "cmake_install.cmake").is_file() or not PROGRAM.is_file(),
                                reason="no build to install from")


def run(*command, **options) -> str:
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, env={}, **options)
    assert result.returncode == 0, result.stderr
    return result.stdout


def install(prefix: Path, *options: str) -> None:
    subprocess.run(["cmake", "--install", BUILD, "--prefix", prefix, *options], check=True, capture_output=True)


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """Installed in one place, moved to another, whose name has a blank."""
    folder = tmp_path_factory.mktemp("install")
    install(folder / "first")
    (folder / "first").rename(folder / "second place")
    yield folder / "second place"
    shutil.rmtree(folder)


def test_runs_with_an_empty_environment(moved, tmp_path):
    matrix = moved / "bin/matrix"
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", run(matrix, "--version"))
    run(matrix, "init", "--preset", "tiny", "--out", "model", cwd=tmp_path)
    assert "total" in run(matrix, "train", "--config", "model/run.json", "--dry-run", cwd=tmp_path)


def test_run_paths_are_relative(moved):
    seen = 0
    for file in (path for path in moved.rglob("*") if path.is_file() and path.read_bytes()[:4] == b"\x7fELF"):
        for entries in re.findall(r"\((?:RUNPATH|RPATH)\).*\[(.*)\]", run("/usr/bin/readelf", "-d", file)):
            assert all(entry.startswith("$ORIGIN") for entry in entries.split(":")), (file, entries)
            seen += 1
    assert seen >= 2  # the program's and libtorch_cpu's


def test_libtorch_comes_from_the_prefix(moved):
    found = dict(re.findall(r"(\S+) => (\S.*) \(0x", run("/usr/bin/ldd", moved / "bin/matrix")))
    of_torch = [name for name in found if re.match(r"lib(torch|c10|gomp|cudart|cupti)", name)]
    assert {"libtorch_cpu.so", "libc10.so"} <= set(of_torch)
    for name in of_torch:
        assert Path(found[name]).resolve().is_relative_to(moved), found[name]


def test_libtorch_can_be_left_out_and_linked(tmp_path, moved):
    install(tmp_path / "small", "--component", "program")
    assert not (tmp_path / "small/lib/torch").exists()
    (tmp_path / "small/lib").mkdir(exist_ok=True)
    (tmp_path / "small/lib/torch").symlink_to(moved / "lib/torch")
    run(tmp_path / "small/bin/matrix", "--version")


def test_presets_and_licences_come_along(moved):
    for preset in (REPO / "configs").glob("*.json"):
        installed = moved / "share/matrix/configs" / preset.name
        assert (installed.parent / json.loads(installed.read_text())["$schema"]).is_file()
    licences = {str(path.relative_to(moved / "share/doc/matrix")) for path in (moved / "share/doc/matrix").rglob("*")}
    assert {"LICENSE", "LICENSES.md", "t5-tokenizer/NOTICE", "libspdlog-dev/copyright"} <= licences
    assert any(re.match(r"torch-[\d.]+\.dist-info/licenses/LICENSE", name) for name in licences)
