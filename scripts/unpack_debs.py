#!/usr/bin/env python3
"""Make a prefix out of Debian packages, without root and without dpkg, for scripts/setup.sh.

    unpack_debs.py --debs DIR --to DIR

Takes what compiling and linking need: headers to include/, shared libraries to lib/ (all into this one folder, since
the architecture's name in Debian's paths means nothing elsewhere), CMake files, licences, and GoogleTest's sources.
"""

import argparse
import io
import re
import shutil
import sys
import tarfile
from pathlib import Path, PurePosixPath
from typing import Optional

TRIPLET = "x86_64-linux-gnu"
# (what is taken, where it goes); BLAS and LAPACK lie in folders that the package manager would link from.
RULES = [
    (re.compile(rf"usr/include/(?:{TRIPLET}/)?(.+)"), r"include/\1"),
    (re.compile(rf"(?:usr/)?lib/(?:{TRIPLET}/)?(?:blas/|lapack/)?([^/]+\.so(?:\.[^/]*)?)"), r"lib/\1"),
    (re.compile(r"usr/share/(cmake/.+|doc/[^/]+/copyright)"), r"share/\1"),
    (re.compile(r"usr/src/(googletest/.+)"), r"src/\1"),
]


def data_archive(deb: Path) -> tarfile.TarFile:
    """The data.tar of a package, which is an `ar` archive: 60-byte headers, members at even offsets."""
    content = deb.read_bytes()
    at = 8
    while content.startswith(b"!<arch>\n") and at + 60 <= len(content):
        name, size = content[at : at + 16].decode().strip().rstrip("/"), int(content[at + 48 : at + 58])
        if name.startswith("data.tar"):
            return tarfile.open(fileobj=io.BytesIO(content[at + 60 : at + 60 + size]))
        at += 60 + size + size % 2
    sys.exit(f"{deb}: not a Debian package; make the bundle again with scripts/setup.sh --bundle")


def place(path: str) -> Optional[str]:
    for pattern, where in RULES:
        if found := pattern.fullmatch(path):
            return found.expand(where)
    return None


def unpack(deb: Path, prefix: Path) -> None:
    with data_archive(deb) as archive:
        for member in archive:
            where = place(str(PurePosixPath(member.name)))
            if where is None or ".." in member.name or not (member.isreg() or member.issym()):
                continue
            target = prefix / where
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            if member.isreg():
                target.write_bytes(archive.extractfile(member).read())
            elif where.startswith("lib/"):  # its target has come to the same folder
                target.symlink_to(PurePosixPath(member.linkname).name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--debs", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    args = parser.parse_args()

    debs = sorted(args.debs.glob("*.deb"))
    if not debs:
        sys.exit(f"{args.debs}: no Debian packages; make the bundle again with scripts/setup.sh --bundle")
    # Complete or absent: an interrupted run leaves a folder of another name, which the next one clears.
    partial = args.to.with_name(args.to.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    for deb in debs:
        unpack(deb, partial)
    shutil.rmtree(args.to, ignore_errors=True)
    partial.rename(args.to)


if __name__ == "__main__":
    main()
