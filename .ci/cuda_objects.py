#!/usr/bin/env python3
"""Print the objects of a CUDA build that a CPU build compiles differently or not at all.

    .ci/cuda_objects.py build/cuda

These are the .cu files, and those .cpp files in which, or in a header of ours that they include, MATRIX_WITH_CUDA stands.
"""

import json
import re
import sys
from functools import cache
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
OUTPUT = re.compile(r" -o (\S+)")  # CMake 3.25 writes no "output" field
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.M)


@cache
def asks_for_cuda(file: Path) -> bool:
    text = file.read_text()
    if "MATRIX_WITH_CUDA" in text:
        return True
    headers = [base / name for name in INCLUDE.findall(text) for base in (file.parent, REPO / "src", REPO / "include")]
    return any(asks_for_cuda(header.resolve()) for header in headers if header.exists())


def main() -> None:
    for command in json.loads(Path(sys.argv[1], "compile_commands.json").read_text()):
        source = Path(command["file"])
        if source.suffix == ".cu" or asks_for_cuda(source):
            print(OUTPUT.search(command["command"])[1])


if __name__ == "__main__":
    main()
