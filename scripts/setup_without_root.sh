# shellcheck shell=bash disable=SC2154 # variables of setup.sh
# Functions of scripts/setup.sh for machines without root or without network: what a bundle holds, how it is collected,
# and how it becomes a prefix.
#   debs/    the Debian packages of the libraries and of all that they need, but for what comes with a compiler
#   wheels/  LibTorch, CMake, Ninja

apt=() pip=()

# apt-get with lists and a state of its own: nothing counts as installed, so that what is fetched is complete.
find_apt() {
    [ ${#apt[@]} -eq 0 ] || return 0
    command -v apt-get >/dev/null ||
        fail "no apt-get here: make a bundle on a Debian 12 machine (scripts/setup.sh --bundle DIR), then --from DIR"
    mkdir -p "$scratch"/apt/{lists,archives}/partial
    apt=(apt-get -qq -o Dir::State="$scratch/apt" -o Dir::Cache="$scratch/apt" -o Dir::State::status=/dev/null
        -o APT::Sandbox::User="$(id -un)")
    "${apt[@]}" update
}

# A pip to download with: of an environment, or where python3 cannot make one, out of Debian's package of it.
find_pip() {
    [ ${#pip[@]} -eq 0 ] || return 0
    if python3 -m venv "$scratch/pip" >/dev/null 2>&1; then
        pip=("$scratch/pip/bin/pip")
        return
    fi
    command -v apt-get >/dev/null || fail "python3 with venv first, or a bundle (--from)"
    find_apt
    (cd "$scratch" && "${apt[@]}" download python3-pip-whl && dpkg-deb -x python3-pip-whl_*.deb pip-whl)
    pip=(python3 "$(echo "$scratch"/pip-whl/usr/share/python-wheels/pip-*.whl)/pip")
}

collect_debs() {
    find_apt
    local wanted names
    read -ra wanted <<<"$(packages libraries media text) googletest"
    names=$("${apt[@]}" --print-uris -y --no-install-recommends install "${wanted[@]}" |
        sed -E "s/^'[^']*' ([^_]+)_.*/\1/" |
        grep -vxE 'libc6(-dev)?|libc-dev-bin|linux-libc-dev|libgcc-s1|libgomp1|libstdc\+\+6|gcc-[0-9]+-base')
    say "Debian packages: fetching $(wc -w <<<"$names") (160 MB), without installing them"
    mkdir -p "$1"
    (cd "$1" && xargs "${apt[@]}" download <<<"$names")
}

make_bundle() {
    if $dry_run; then
        say "would collect in $bundle: Debian packages of the libraries, CMake, Ninja$($libtorch && echo ", LibTorch")"
        return
    fi
    rm -rf "$bundle/debs" "$bundle/wheels"
    mkdir -p "$bundle"
    collect_debs "$bundle/debs"
    download_wheels build-tools.txt "$bundle/wheels"
    if $libtorch; then download_wheels "$(libtorch_pins)" "$bundle/wheels"; fi
    say "bundle: $bundle ($(du -sh "$bundle" | cut -f1)); on the other machine: scripts/setup.sh --from $(printf %q "$bundle")"
}

# What no bundle brings, by name.
check_compiler() {
    local tool missing=()
    for tool in g++ ld python3; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    [ ${#missing[@]} -eq 0 ] || fail "missing on this machine: ${missing[*]} (g++ 12, Python 3.9 or newer)"
    [ "$(g++ -dumpversion | cut -d. -f1)" -ge 12 ] || fail "g++ is $(g++ -dumpversion): 12 or newer is wanted"
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))' || fail "$(python3 --version): 3.9 or newer is wanted"
}

has_build_tools() {
    command -v ninja >/dev/null && command -v cmake >/dev/null &&
        printf '%s\n' 3.25 "$(cmake --version | sed -n '1s/.* //p')" | sort -VC
}

install_build_tools() {
    if has_build_tools; then return; fi
    local wheels=$from/wheels
    if [ -z "$from" ]; then
        wheels=$scratch/tools
        download_wheels build-tools.txt "$wheels"
    fi
    unpack_wheels "$wheels" build-tools.txt "$cache/tools"
    mkdir "$cache/tools/bin"
    (cd "$cache/tools/bin" && ln -s ../cmake/data/bin/c{make,test} ../ninja-*.data/scripts/ninja .)
    say "CMake and Ninja: $cache/tools"
}

install_debs() {
    local debs=$from/debs library needs
    if [ -z "$from" ]; then
        debs=$scratch/debs
        collect_debs "$debs"
    fi
    python3 "$repo/scripts/unpack_debs.py" --debs "$debs" --to "$deps_dir"
    # Built here, with the compiler that will build the tests.
    cmake -S "$deps_dir/src/googletest" -B "$scratch/googletest" -G Ninja -DCMAKE_BUILD_TYPE=Release \
        -DCMAKE_INSTALL_PREFIX="$deps_dir" -DCMAKE_INSTALL_LIBDIR=lib -DCMAKE_WARN_DEPRECATED=OFF >/dev/null
    cmake --build "$scratch/googletest" --target install >/dev/null
    say "libraries and GoogleTest: $deps_dir"
    for library in avformat opencv_imgcodecs sentencepiece; do
        if ! needs=$(LD_LIBRARY_PATH=$deps_dir/lib ldd "$deps_dir/lib/lib$library.so" 2>&1) ||
            grep -q 'not found' <<<"$needs"; then
            say "lib$library.so of the packages does not load on this system ($(getconf GNU_LIBC_VERSION)): configure with" \
                "cmake --preset release -DMATRIX_WITH_MEDIA=OFF -DMATRIX_WITH_TEXT=OFF"
            return
        fi
    done
}

write_environment() {
    cat >"$cache/env.sh" <<TEXT
export PATH=$(printf %q "$cache/tools/bin"):\$PATH
export LIBTORCH_ROOT=$(printf %q "$torch_found")
export CMAKE_PREFIX_PATH=$(printf %q "$deps_dir")\${CMAKE_PREFIX_PATH:+:\$CMAKE_PREFIX_PATH}
TEXT
    say "before building: . $(printf %q "$cache/env.sh")"
}

install_without_root() {
    if [ -f "$from" ]; then
        mkdir "$scratch/bundle"
        tar -xf "$from" -C "$scratch/bundle"
        from=$(dirname "$(find "$scratch/bundle" -maxdepth 2 -type d -name debs -print -quit)")
    fi
    [ -z "$from" ] || [ -d "$from/debs" ] || fail "$from is not a bundle made by scripts/setup.sh --bundle"
    check_compiler
    if $dry_run; then
        has_build_tools || say "would unpack CMake and Ninja into $cache/tools"
        say "would unpack the Debian packages of the libraries into $deps_dir"
        install_libtorch
        return
    fi
    mkdir -p "$cache"
    install_build_tools
    export PATH=$cache/tools/bin:$PATH
    install_debs
    install_libtorch
    write_environment
}
