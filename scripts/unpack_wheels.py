#!/usr/bin/env python3
"""Unpack what a build needs out of PyTorch, NVIDIA, CMake and Ninja wheels, for scripts/setup.sh.

    unpack_wheels.py --wheels DIR --pins third_party/libtorch-cpu.txt --to DIR

Every wheel in the pins file must be in DIR with the pinned SHA-256. The pins file says what is taken: of
libtorch-cpu.txt what a CPU program compiles and links against (0.5 GB), of libtorch-cuda.txt all headers and libraries
(3.5 GB), of build-tools.txt the programs. The layout is that of site-packages, `torch/` beside `nvidia/`, since the
libraries find each other by relative paths.
"""

import argparse
import hashlib
import re
import shutil
import sys
import zipfile
from pathlib import Path

LICENCES = r"|[^/]+\.dist-info/(licenses/|License|LICENSE)"
FILES = {
    "libtorch-cpu.txt": re.compile(
        r"torch/include/|torch/lib/lib(c10|torch_cpu)\.so$|torch/lib/libgomp\.so\.1$"
        r"|nvidia/cu13/lib/lib(cudart|cupti)\.so\.13$" + LICENCES
    ),
    "libtorch-cuda.txt": re.compile(r"torch/(include|lib)/|nvidia/" + LICENCES),
    "build-tools.txt": re.compile(r"cmake/data/(bin/|share/cmake)|ninja-[^/]+\.data/scripts/ninja$" + LICENCES),
}


def read_pins(path: Path) -> dict:
    """SHA-256 by wheel name, of a requirements file and of those that it includes."""
    pins = {}
    text = path.read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if line.startswith("-r "):
            pins.update(read_pins(path.parent / line[3:].strip()))
        elif found := re.match(r"([A-Za-z0-9_.-]+)==\S+\s+--hash=sha256:([0-9a-f]{64})", line):
            pins[found[1].replace("-", "_")] = found[2]
    return pins


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def find_wheels(folder: Path, pins: dict) -> list:
    wheels = []
    for name, pin in pins.items():
        found = sorted(folder.glob(f"{name}-*.whl"))
        if not found:
            sys.exit(f"{folder}: no wheel of {name}; run scripts/setup.sh --bundle again with the same options")
        if sha256(found[0]) != pin:
            sys.exit(f"{found[0]}: SHA-256 differs from the pinned {pin}; download it again")
        wheels.append(found[0])
    return wheels


def unpack(wheel: Path, wanted: re.Pattern, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            if wanted.match(member.filename) and not member.is_dir():
                mode = member.external_attr >> 16 & 0o777
                Path(archive.extract(member, folder)).chmod(mode or 0o644)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheels", type=Path, required=True)
    parser.add_argument("--pins", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    args = parser.parse_args()

    wheels = find_wheels(args.wheels, read_pins(args.pins))
    # Complete or absent: an interrupted run leaves a folder of another name, which the next one clears.
    partial = args.to.with_name(args.to.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    for wheel in wheels:
        unpack(wheel, FILES[args.pins.name], partial)
    shutil.rmtree(args.to, ignore_errors=True)
    partial.rename(args.to)


if __name__ == "__main__":
    main()
