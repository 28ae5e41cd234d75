#!/usr/bin/env bash
# usage: scripts/format.sh [--check]    format our C++ files in place, or fail with the places that are not formatted
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case ${1:-} in
    "") mode=(-i) ;;
    --check) mode=(--dry-run -Werror) ;;
    *)
        echo "usage: scripts/format.sh [--check]" >&2
        exit 2
        ;;
esac

# Other versions format differently.
for clang_format in clang-format-14 clang-format ""; do
    if "$clang_format" --version 2>/dev/null | grep -q 'version 14\.'; then break; fi
done
if [ -z "$clang_format" ]; then
    echo "format.sh: clang-format 14 not found (Debian 12: clang-format; elsewhere: pip install clang-format==14.0.6)" >&2
    exit 1
fi
git ls-files -z --cached --others --exclude-standard -- '*.h' '*.cpp' '*.cu' '*.cuh' |
    xargs -0 --no-run-if-empty "$clang_format" "${mode[@]}"
