#!/usr/bin/env python3
"""Make a LibTorch folder out of PyTorch and NVIDIA wheels, for scripts/setup.sh.

    unpack_libtorch.py --wheels DIR --pins third_party/libtorch-cpu.txt --to DIR

Every wheel in the pins file must be in DIR with the pinned SHA-256. With libtorch-cpu.txt only what a CPU program
compiles and links against is unpacked (0.5 GB); with libtorch-cuda.txt all headers and libraries (3.5 GB). The layout is
that of site-packages, `torch/` beside `nvidia/`, since the libraries find each other by relative paths.
"""

import argparse
import hashlib
import re
import shutil
import sys
import zipfile
from pathlib import Path

CPU_FILES = re.compile(
    r"torch/include/|torch/lib/lib(c10|torch_cpu)\.so$|torch/lib/libgomp\.so\.1$"
    r"|nvidia/cu13/lib/lib(cudart|cupti)\.so\.13$|[^/]+\.dist-info/(licenses/|License|LICENSE)"
)
CUDA_FILES = re.compile(r"torch/(include|lib)/|nvidia/|[^/]+\.dist-info/(licenses/|License|LICENSE)")


def read_pins(path: Path) -> dict[str, str]:
    """SHA-256 by wheel name, of a requirements file and of those that it includes."""
    pins = {}
    text = path.read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if line.startswith("-r "):
            pins |= read_pins(path.parent / line[3:].strip())
        elif found := re.match(r"([A-Za-z0-9_.-]+)==\S+\s+--hash=sha256:([0-9a-f]{64})", line):
            pins[found[1].replace("-", "_")] = found[2]
    return pins


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_wheels(folder: Path, pins: dict[str, str]) -> list[Path]:
    wheels = []
    for name, pin in pins.items():
        found = sorted(folder.glob(f"{name}-*.whl"))
        if not found:
            sys.exit(f"{folder}: no wheel of {name}; run scripts/setup.sh --bundle again with the same options")
        if sha256(found[0]) != pin:
            sys.exit(f"{found[0]}: SHA-256 differs from the pinned {pin}; download it again")
        wheels.append(found[0])
    return wheels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheels", type=Path, required=True)
    parser.add_argument("--pins", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    args = parser.parse_args()

    wanted = CUDA_FILES if "cuda" in args.pins.name else CPU_FILES
    wheels = find_wheels(args.wheels, read_pins(args.pins))
    # Complete or absent: an interrupted run leaves a folder of another name, which the next one clears.
    partial = args.to.with_name(args.to.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(partial, [name for name in archive.namelist() if wanted.match(name)])
    shutil.rmtree(args.to, ignore_errors=True)
    partial.rename(args.to)


if __name__ == "__main__":
    main()
