"""scripts/setup.sh: what it says and refuses, without installing anything, and a small bundle's way into a prefix."""

import hashlib
import io
import os
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]


def setup(home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess:
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home), **more}
    command = [REPO / "scripts/setup.sh", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)


def test_dry_run_writes_nothing(tmp_path):
    result = setup(tmp_path, "--dry-run", "--python", "--cuda")
    assert "would make a Python environment from third_party/python.txt" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_dry_run_without_root_names_the_prefix(tmp_path):
    prefix = tmp_path / "my prefix"
    result = setup(tmp_path, "--no-root", "--prefix", str(prefix), "--dry-run")
    assert result.returncode == 0, result.stderr
    assert f"would unpack the Debian packages of the libraries into {prefix}/deps" in result.stdout
    assert "apt-get install" not in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpu"], "unknown option --gpu"),
        (["--bundle"], "--bundle needs a path"),
        (["--prefix", ""], "--prefix needs a path"),
        (["--bundle", "a", "--from", "b"], "--bundle excludes --from and --no-root"),
        (["--bundle", "a", "--no-root"], "--bundle excludes --from and --no-root"),
        (["--from", "a", "--python"], "--python excludes --from and --no-root"),
        (["--no-root", "--python"], "--python excludes --from and --no-root"),
        (["--prefix", "a"], "--prefix belongs to --no-root and --from"),
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
    result = unpack("wheels", tmp_path, tmp_path / "out", "--pins", REPO / "third_party/libtorch-cpu.txt")
    assert result.returncode == 1
    assert "SHA-256 differs" in result.stderr
    assert not (tmp_path / "out").exists()


def unpack(what: str, source: Path, to: Path, *more) -> subprocess.CompletedProcess:
    command = [REPO / f"scripts/unpack_{what}.py", f"--{what}", source, "--to", to, *more]
    return subprocess.run(command, capture_output=True, text=True)


def test_programs_of_wheels_can_be_run(tmp_path):
    wheel = tmp_path / "ninja-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        program = zipfile.ZipInfo("ninja-1.0.data/scripts/ninja")
        program.external_attr = 0o755 << 16
        archive.writestr(program, "#!/bin/sh\necho ran\n")
        archive.writestr("ninja/__init__.py", "")
    pins = tmp_path / "build-tools.txt"
    pins.write_text(f"ninja==1.0 \\\n    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    result = unpack("wheels", tmp_path, tmp_path / "out", "--pins", pins)
    assert result.returncode == 0, result.stderr
    assert subprocess.check_output([tmp_path / "out/ninja-1.0.data/scripts/ninja"], text=True) == "ran\n"
    assert not (tmp_path / "out/ninja").exists()


def make_deb(path: Path, files: dict[str, str], links: dict[str, str] = {}) -> None:
    """A package as dpkg-deb makes it: an `ar` archive of three members, the last an xz-packed tar."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo("./" + name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
        for name, target in links.items():
            entry = tarfile.TarInfo("./" + name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    members = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": data.getvalue()}
    content = b"!<arch>\n"
    for name, member in members.items():
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(member):<10}`\n"
        content += header.encode() + member + b"\n" * (len(member) % 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


LIBRARIES = {
    "usr/include/x86_64-linux-gnu/libavcodec/avcodec.h": "header",
    "usr/include/opencv4/opencv2/core.hpp": "header",
    "usr/lib/x86_64-linux-gnu/libz.so.1.2": "library",
    "usr/lib/x86_64-linux-gnu/lapack/liblapack.so.3": "library",
    "usr/lib/libplain.so.1": "library",
    "usr/share/cmake/CLI11/CLI11Config.cmake": "cmake",
    "usr/share/doc/zlib1g/copyright": "licence",
    "usr/bin/program": "no",
    "usr/lib/x86_64-linux-gnu/dri/driver.so": "no",
    "usr/include/../../../escaped.h": "no",
}


def test_debs_become_a_prefix(tmp_path):
    links = {"usr/lib/x86_64-linux-gnu/libz.so": "/lib/x86_64-linux-gnu/libz.so.1.2"}
    make_deb(tmp_path / "debs/a_1_amd64.deb", LIBRARIES, links)
    result = unpack("debs", tmp_path / "debs", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if not path.is_dir()}
    assert found == {
        "include/libavcodec/avcodec.h", "include/opencv4/opencv2/core.hpp", "lib/libz.so.1.2", "lib/libz.so",
        "lib/liblapack.so.3", "lib/libplain.so.1", "share/cmake/CLI11/CLI11Config.cmake", "share/doc/zlib1g/copyright"}
    assert (tmp_path / "out/lib/libz.so").read_text() == "library"
    assert not (tmp_path / "escaped.h").exists()


@pytest.mark.parametrize(("files", "message"), [({"a.deb": b"odd"}, "not a Debian package"), ({}, "no Debian packages")])
def test_debs_that_are_none(tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    result = unpack("debs", tmp_path, tmp_path / "out")
    assert result.returncode == 1
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_bundle_fills_a_prefix(tmp_path):
    """With stand-ins for the libraries, for GoogleTest and for LibTorch; --from takes a tar file, too."""
    debs = tmp_path / "bundle/debs"
    make_deb(debs / "gtest_1_all.deb", {
        "usr/src/googletest/CMakeLists.txt": "cmake_minimum_required(VERSION 3.25)\nproject(stand_in NONE)\n"
                                             "install(FILES CMakeLists.txt DESTINATION lib/cmake/GTest)\n"})
    torch = tmp_path / "torch"
    version = b"#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 11\n"
    for name, content in {"include/torch/headeronly/version.h": version,
                          "lib/libtorch_cpu.so": Path("/bin/true").read_bytes()}.items():
        (torch / name).parent.mkdir(parents=True)
        (torch / name).write_bytes(content)
    with tarfile.open(tmp_path / "bundle.tar", "w") as tar:
        tar.add(tmp_path / "bundle", "bundle")
    prefix = tmp_path / "my prefix"
    result = setup(tmp_path, "--from", str(tmp_path / "bundle.tar"), "--prefix", str(prefix), LIBTORCH_ROOT=str(torch))
    assert result.returncode == 0, result.stderr
    assert (prefix / "deps/lib/cmake/GTest/CMakeLists.txt").is_file()
    # There is no libavformat.so in this bundle: that is said, with what to do.
    assert "libavformat.so" in result.stdout and "-DMATRIX_WITH_MEDIA=OFF -DMATRIX_WITH_TEXT=OFF" in result.stdout
    shown = subprocess.run(["bash", "-c", '. "$0"; echo "$LIBTORCH_ROOT|$CMAKE_PREFIX_PATH|$PATH"', prefix / "env.sh"],
                           env={"PATH": "/usr/bin", "CMAKE_PREFIX_PATH": "/mine"}, capture_output=True, text=True)
    assert shown.stdout == f"{torch}|{prefix}/deps:/mine|{prefix}/tools/bin:/usr/bin\n"
    assert list(tmp_path.glob("matrix-setup.*")) == []
