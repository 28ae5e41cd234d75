#!/usr/bin/env python3
"""Hold includes and CMake link lines to the arrows between modules.

    check_layers.py            exit 1 with file:line for each offence
    check_layers.py --graph    the module graph as it stands, as Markdown

Directories are modules: include/matrix/<module>/ is its contract, src/<module>/ is private to it. A module includes its
own files and the public headers of the modules in its row below, directly: arrows do not add up. `log` stands right of
everything and every module may use it; it uses nothing, so that it stays free of torch.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import NamedTuple

ARROWS = {
    "train": "alignment data_cache models lora diffusion distributed kernels tensor_io core nn",
    "prepare": "data_source data_cache models models/vae models/t5 distributed tensor_io core",
    "analysis": "pipeline alignment data_source models nn diffusion lora text media tensor_io core",
    "pipeline": "models models/cogvideox models/vae models/t5 lora diffusion nn kernels tensor_io core",
    "eval": "media core",
    "alignment": "nn kernels core",
    "data_source": "text media data_cache core",
    "data_cache": "tensor_io core",
    "lora": "nn tensor_io core",
    "models/cogvideox": "models nn tensor_io core",
    "models/vae": "models nn tensor_io core",
    "models/t5": "models nn tensor_io core",
    "models": "nn kernels tensor_io core",
    "nn": "kernels core",
    "kernels": "core",
    "diffusion": "core",
    "distributed": "core",
    "text": "core",
    "eval": "media core",
    "media": "core",
    "tensor_io": "core",
    "core": "",
}
ARROWS["cli"] = " ".join(ARROWS)  # everything
ARROWS = {module: f"{row} log".strip() for module, row in ARROWS.items()} | {"log": ""}
ALLOWED = {module: set(row.split()) for module, row in ARROWS.items()}


class Library(NamedTuple):
    """Headers that only one module may include, and only in .cpp files."""

    name: str
    headers: re.Pattern
    module: str


LIBRARIES = [
    Library("FFmpeg", re.compile(r"lib(av|sw)\w+/"), "media"),
    Library("OpenCV", re.compile(r"opencv2/"), "media"),
    Library("libpng", re.compile(r"png\.h$"), "media"),
    Library("libcurl", re.compile(r"curl/"), "eval"),
    Library("sentencepiece", re.compile(r"sentencepiece"), "text"),
    Library("spdlog", re.compile(r"(spdlog|fmt)/"), "log"),
    Library("NCCL", re.compile(r"nccl\.h$"), "distributed"),
    Library("CLI11", re.compile(r"CLI/"), "cli"),
]
TORCH = re.compile(r"(ATen|c10|torch)/")
WHOLE_TORCH = re.compile(r"torch/(torch|all|nn|extension|script)\.h$")  # 16 s and 1.3 GB a file
PUBLIC_TORCH = {"ATen/core/Tensor.h", "ATen/core/Generator.h", "c10/core/Device.h"}  # what a public header may cost its readers

INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')
LINK = re.compile(r"matrix(?:::|_)([a-z0-9_]+)")
MODULE_CALL = re.compile(r"matrix_module\((.*?)\)", re.S)
SOURCE_SUFFIXES = {".h", ".cpp", ".cu", ".cuh"}


class Include(NamedTuple):
    file: Path
    line: int
    quoted: bool
    path: str


class Checker:
    def __init__(self, root: Path):
        self.root = root
        self.offences: list[str] = []
        self.edges: set[tuple[str, str]] = set()

    def report(self, file: Path, line: int, text: str) -> None:
        self.offences.append(f"{file.relative_to(self.root)}:{line}: {text}")

    def run(self) -> None:
        for file in self.files("include", "src", "tests"):
            for include in includes_of(file):
                self.check_torch(include)
                self.check_library(include)
                self.check_arrow(include)
        for file in sorted(self.root.glob("src/**/CMakeLists.txt")):
            self.check_links(file)

    def files(self, *folders: str) -> list[Path]:
        found = [path for folder in folders for path in self.root.glob(f"{folder}/**/*")]
        return sorted(path for path in found if path.suffix in SOURCE_SUFFIXES)

    def owner(self, file: Path) -> tuple[str | None, str]:
        """Module of a file, and where it stands: public, private or tests."""
        parts = file.relative_to(self.root).parts
        if parts[:2] == ("include", "matrix"):
            return module_of(parts[2:]), "public"
        return module_of(parts[1:]), "private" if parts[0] == "src" else "tests"

    def check_torch(self, include: Include) -> None:
        module, place = self.owner(include.file)
        if WHOLE_TORCH.match(include.path):
            self.report(*include[:2], f"{include.path} is all of torch; include the narrow header")
        elif module == "log" and place != "tests" and TORCH.match(include.path):
            self.report(*include[:2], f"log stands without torch, but includes {include.path}")
        elif place == "public" and TORCH.match(include.path) and include.path not in PUBLIC_TORCH:
            self.report(*include[:2], f"a public header includes {include.path}; of torch it may {sorted(PUBLIC_TORCH)}")

    def check_library(self, include: Include) -> None:
        module, place = self.owner(include.file)
        if place == "tests" or (include.quoted and (include.file.parent / include.path).exists()):
            return
        for library in LIBRARIES:
            if not library.headers.match(include.path):
                continue
            if module != library.module:
                self.report(*include[:2], f"{library.name} belongs to {library.module}, but {module} includes it")
            elif include.file.suffix not in {".cpp", ".cu"}:
                self.report(*include[:2], f"{library.name} in a header; include it in .cpp files only")

    def check_arrow(self, include: Include) -> None:
        source, place = self.owner(include.file)
        if place == "tests":
            return
        target, private = self.target(include)
        if target is None or target == source:
            return
        if private:
            self.report(*include[:2], f"{include.path} is private to {target}")
            return
        self.check_edge(include.file, include.line, source, target)

    def target(self, include: Include) -> tuple[str | None, bool]:
        """Module that an include reaches, as the compiler finds it, and whether the header is private to it."""
        if include.path.startswith("matrix/"):
            return module_of(Path(include.path).parts[1:]), False
        if not include.quoted:
            return None, False
        for base in (include.file.parent, self.root / "src"):
            file = (base / include.path).resolve()
            if file.exists() and file.is_relative_to(self.root):
                module, place = self.owner(file)
                return module, place == "private"
        return None, False

    def check_edge(self, file: Path, line: int, source: str | None, target: str | None) -> None:
        for module in (source, target):
            if module not in ALLOWED:
                self.report(file, line, f"module {module} has no row in scripts/check_layers.py")
                return
        self.edges.add((source, target))
        if target not in ALLOWED[source]:
            self.report(file, line, f"{source} may not use {target} (it may: {ARROWS[source] or 'nothing'})")

    def check_links(self, file: Path) -> None:
        text = re.sub(r"#.*", "", file.read_text())
        names = {module.replace("/", "_"): module for module in ALLOWED}
        source, _ = self.owner(file)
        for call in MODULE_CALL.finditer(text):
            for link in LINK.finditer(call[1]):
                target = names.get(link[1])  # others are matrix_opencv and the like, or a part of this module
                if target is not None and target != source:
                    line = text.count("\n", 0, call.start(1) + link.start()) + 1
                    self.check_edge(file, line, source, target)


def includes_of(file: Path) -> list[Include]:
    found = []
    for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
        if match := INCLUDE.match(line):
            found.append(Include(file, number, match[1] == '"', match[2]))
    return found


def module_of(parts: tuple[str, ...]) -> str | None:
    """The longest module name that the directories of a path below include/matrix, src or tests spell."""
    directories = parts[:-1]
    for length in range(len(directories), 0, -1):
        if (name := "/".join(directories[:length])) in ALLOWED:
            return name
    return directories[0] if directories else None


def graph(edges: set[tuple[str, str]]) -> str:
    lines = [f"    {source.replace('/', '_')} --> {target.replace('/', '_')}" for source, target in sorted(edges)]
    return "\n".join(["```mermaid", "graph TD", *lines, "```"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--graph", action="store_true", help="print the module graph as Markdown")
    parser.add_argument("--root", type=Path, default=Path(__file__).parent.parent, help="the checkout to look at")
    args = parser.parse_args()

    checker = Checker(args.root.resolve())
    checker.run()
    if args.graph:
        print(graph(checker.edges))
        return 0
    for offence in checker.offences:
        print(offence)
    return 1 if checker.offences else 0


if __name__ == "__main__":
    sys.exit(main())
