#!/usr/bin/env bash
# Creates the virtual environment and installs the node, checking first for what pip cannot build without.
set -euo pipefail
venv="${1:-.venv}"
python="${PYTHON:-python3}"

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

command -v "$python" >/dev/null || die "no $python: install Python 3.11 or newer (apt-get install python3 python3-venv)"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  die "$("$python" --version) is too old: Python 3.11 or newer is needed (or set PYTHON=python3.12)"

# A dependency of libp2p (fastecdsa) is compiled on installation: it needs a C compiler, GMP and Python headers.
missing=()
command -v cc >/dev/null || command -v gcc >/dev/null || missing+=(gcc libc6-dev)
printf '#include <gmp.h>\nint main(void){return 0;}\n' | ${CC:-cc} -x c -fsyntax-only - 2>/dev/null || missing+=(libgmp-dev)
include="$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')"
[ -f "$include/Python.h" ] || missing+=(python3-dev)
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
if [ "${#missing[@]}" -gt 0 ]; then
  line="apt-get update && apt-get install -y ${missing[*]}"
  if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    say "installing ${missing[*]}"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
  elif command -v apt-get >/dev/null && command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    say "installing ${missing[*]} with sudo"
    sudo apt-get update -qq && sudo DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
  else
    die "these are missing and need administrator rights; run this line, then again make: sudo sh -c '$line'"
  fi
fi

[ -x "$venv/bin/python" ] || { say "creating $venv with $("$python" --version)"; "$python" -m venv "$venv"; }
say "installing the node and its dependencies into $venv (a minute or two the first time)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable .
say "done: $venv/bin/myelin"
