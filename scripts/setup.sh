#!/usr/bin/env bash
# Installs what building matrix.cpp needs and this machine has not. See usage() below.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/matrix.cpp # where cmake/ looks
# shellcheck source=scripts/setup_without_root.sh
. "$repo/scripts/setup_without_root.sh"

usage() {
    cat <<'TEXT'
usage: scripts/setup.sh [options]

Installs, where missing: the Debian packages of third_party/debian-packages.txt and LibTorch 2.11 (544 MB download,
0.5 GB on disk, under ${XDG_CACHE_HOME:-~/.cache}/matrix.cpp). A LibTorch that is already there is used instead:
$LIBTORCH_ROOT (the `torch` folder of a wheel), or a python3 that has torch 2.11. Running it again is harmless.

  --cuda        the CUDA libraries too (2.2 GB download, 3.5 GB on disk); the CUDA toolkit with nvcc is yours to install
  --python      the Python environment of the interoperability tests and of scripts/fixtures (it brings its own LibTorch)
  --no-root     install nothing into the system: the Debian packages of the libraries are fetched and unpacked, CMake
                and Ninja come as wheels where they are missing, all as an ordinary user. g++ 12 with its binutils and
                Python 3.9 must be there. The last line says which file to source before building
  --bundle DIR  collect in DIR what --from needs: those packages, LibTorch (with --cuda, all of it), CMake and Ninja.
                For a Debian 12 machine with network; needs no root
  --no-libtorch with --bundle: leave LibTorch out (for machines that have torch 2.11)
  --from PATH   --no-root from a bundle, a directory or a tar file of one, without network
  --prefix DIR  with --no-root or --from: put everything there instead
  --dry-run     say what would be done and do nothing
  --help        this text

Exit status: 0 all there, 1 something is still missing (without root, the command that root must run is printed),
2 wrong usage.
TEXT
}

cuda=false python=false libtorch=true dry_run=false no_root=false bundle="" from="" prefix=""

parse_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
            --cuda) cuda=true ;;
            --python) python=true ;;
            --no-libtorch) libtorch=false ;;
            --no-root) no_root=true ;;
            --dry-run) dry_run=true ;;
            --bundle | --from | --prefix)
                [ -n "${2:-}" ] || fail_usage "$1 needs a path"
                printf -v "${1#--}" %s "$2"
                shift
                ;;
            -h | --help)
                usage
                exit 0
                ;;
            *) fail_usage "unknown option $1" ;;
        esac
        shift
    done
    if [ -n "$from" ]; then no_root=true; fi
    if [ -n "$bundle" ] && $no_root; then fail_usage "--bundle excludes --from and --no-root"; fi
    if $no_root && $python; then fail_usage "--python excludes --from and --no-root"; fi
    if [ -n "$prefix" ] && ! $no_root; then fail_usage "--prefix belongs to --no-root and --from"; fi
    if ! $libtorch && [ -z "$bundle" ]; then fail_usage "--no-libtorch belongs to --bundle"; fi
}

fail_usage() {
    echo "setup.sh: $1 (scripts/setup.sh --help)" >&2
    exit 2
}

fail() {
    echo "setup.sh: $1" >&2
    exit 1
}

say() { echo "setup: $*"; }

# Names in the groups $*, or in all groups.
packages() {
    awk -v groups=" $* " '/^\[/ { wanted = groups == "  " || index(groups, " " substr($0, 2, length($0) - 2) " ") }
        wanted && !/^[#[]/ && NF' "$repo/third_party/debian-packages.txt" | xargs
}

# 0: all there, or installed; 1: root must run something first.
install_packages() {
    if ! command -v dpkg-query >/dev/null; then
        say "not a Debian system; needed, under their Debian 12 names:" "$(packages)"
        return 0
    fi
    local package missing=()
    for package in $(packages); do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    if [ ${#missing[@]} -eq 0 ]; then
        say "Debian packages: all there"
        return 0
    fi
    local install=(apt-get install -y --no-install-recommends "${missing[@]}")
    if [ "$(id -u)" -ne 0 ]; then
        say "Debian packages are missing. As root, run:"
        echo "    apt-get update && ${install[*]}"
        return 1
    fi
    if $dry_run; then
        say "would run: apt-get update && ${install[*]}"
        return 0
    fi
    say "Debian packages: installing ${#missing[@]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${install[@]}" -qq >/dev/null
}

# 0 when the environment has every pinned version.
python_is_complete() {
    [ -x "$python_env/bin/python" ] && "$python_env/bin/python" - "$repo/third_party/python.txt" <<'PYTHON'
import re, sys
from importlib import metadata
have = {re.sub(r"[-_.]+", "-", d.name).lower(): d.version for d in metadata.distributions()}
pins = re.findall(r"^([\w.-]+)==(\S+)", open(sys.argv[1]).read(), re.M)
sys.exit(any(have.get(name) != version for name, version in pins))
PYTHON
}

install_python() {
    if python_is_complete; then
        say "Python environment: $python_env"
        return
    fi
    if $dry_run; then
        say "would make a Python environment from third_party/python.txt: $python_env"
        return
    fi
    python3 -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' ||
        fail "third_party/python.txt pins Python 3.11 to 3.13; this is $(python3 --version)"
    say "Python environment: installing into $python_env (about 2.5 GB)"
    mkdir -p "$cache"
    python3 -m venv "$python_env"
    "$python_env/bin/pip" install -q --disable-pip-version-check --no-cache-dir --only-binary=:all: --require-hashes \
        -r "$repo/third_party/python.txt"
}

# Is $1 the `torch` folder of a usable 2.11, with every library that this build needs? libcuda comes with the driver.
is_libtorch() {
    local library=libtorch_cpu.so version=$1/include/torch/headeronly/version.h
    if $cuda; then library=libtorch_cuda.so; fi
    [ -f "$1/lib/$library" ] && [ -f "$version" ] &&
        grep -q 'define TORCH_VERSION_MAJOR 2$' "$version" && grep -q 'define TORCH_VERSION_MINOR 11$' "$version" &&
        ! ldd "$1/lib/$library" | grep -v 'libcuda\.so' | grep -q 'not found'
}

# The torch folder of the python3 on the path, without importing it.
torch_of_python() {
    python3 -c 'import importlib.util as u; s = u.find_spec("torch"); print(s.submodule_search_locations[0] if s else "")' \
        2>/dev/null || true
}

# Leaves its folder in torch_found.
install_libtorch() {
    local candidate
    for candidate in "${LIBTORCH_ROOT:-}" "$libtorch_dir/torch" "$python_env"/lib/python3*/site-packages/torch; do
        if [ -n "$candidate" ] && is_libtorch "$candidate"; then
            say "LibTorch: $candidate"
            torch_found=$candidate
            return
        fi
    done
    [ -z "${LIBTORCH_ROOT:-}" ] || fail "LIBTORCH_ROOT=$LIBTORCH_ROOT is not the torch folder of a complete LibTorch 2.11"
    if $python && $dry_run; then
        say "would use the LibTorch of the Python environment"
        return
    fi
    candidate=$(torch_of_python)
    if [ -n "$candidate" ] && is_libtorch "$candidate"; then
        say "LibTorch: $candidate, linked from $libtorch_dir"
        $dry_run && return
        rm -rf "$libtorch_dir"
        mkdir -p "$libtorch_dir"
        ln -s "$candidate" "$libtorch_dir/torch"
        torch_found=$libtorch_dir/torch
        return
    fi
    if $dry_run; then
        say "would unpack LibTorch 2.11 from the wheels of third_party/$(libtorch_pins) into $libtorch_dir"
        return
    fi
    local wheels=$from/wheels
    if [ -z "$from" ]; then
        wheels=$scratch/wheels
        say "LibTorch: downloading $(if $cuda; then echo 2.2 GB; else echo 544 MB; fi)"
        download_wheels "$(libtorch_pins)" "$wheels"
    fi
    unpack_wheels "$wheels" "$(libtorch_pins)" "$libtorch_dir"
    is_libtorch "$libtorch_dir/torch" || fail "$libtorch_dir does not load: see ldd $libtorch_dir/torch/lib/*.so"
    torch_found=$libtorch_dir/torch
    say "LibTorch: $torch_found"
}

libtorch_pins() { if $cuda; then echo libtorch-cuda.txt; else echo libtorch-cpu.txt; fi; }

# download_wheels PINS DIR
download_wheels() {
    [ "$(uname -m)" = x86_64 ] || fail "the pinned wheels are for x86-64; set LIBTORCH_ROOT to a LibTorch 2.11"
    # Any Python's wheel serves: one is pinned.
    local tag tags=()
    for tag in 28 27 25 18 17 12; do tags+=(--platform "manylinux_2_${tag}_x86_64"); done
    tags+=(--platform manylinux2014_x86_64 --platform manylinux2010_x86_64)
    find_pip
    "${pip[@]}" download -q --disable-pip-version-check --no-cache-dir --no-deps --only-binary=:all: \
        --require-hashes --implementation cp --python-version 3.11 --abi cp311 --abi none "${tags[@]}" \
        -r "$repo/third_party/$1" -d "$2"
}

# unpack_wheels WHEELS PINS TO
unpack_wheels() {
    mkdir -p "$cache"
    python3 "$repo/scripts/unpack_wheels.py" --wheels "$1" --pins "$repo/third_party/$2" --to "$3"
}

parse_arguments "$@"
if [ -n "$prefix" ]; then cache=$(realpath -m "$prefix"); fi
libtorch_dir=$cache/libtorch-2.11.0 # cmake/ looks for these three
python_env=$cache/python
deps_dir=$cache/deps
scratch=$(mktemp -d "${TMPDIR:-/tmp}/matrix-setup.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

if [ -n "$bundle" ]; then
    make_bundle
    exit 0
fi
if $no_root; then
    install_without_root
    exit 0
fi
status=0
install_packages || status=1
# What follows needs no root, but a Python that can make environments.
$dry_run || python3 -c 'import ensurepip' 2>/dev/null || fail "python3 with venv first; then run this again"
if $python; then install_python; fi
install_libtorch
exit $status
