#!/usr/bin/env bash
# onnxruntime-gpu 1.31.1 (Linux wheel from PyPI): `import onnxruntime`, and nothing else, creates a device id and a database of
# events to be sent, under $XDG_CACHE_HOME/Microsoft/DeveloperTools/.onnxruntime. Nothing was asked or told. Seen: `deviceid` and
# `onnxruntime.db`. With ORT_DISABLE_TELEMETRY=1 in the environment BEFORE the import neither appears. Whoever runs it in a service
# wants that set first. Fails when either changes.
set -euo pipefail

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
python3 -m venv "$WORK/venv"
"$WORK/venv/bin/pip" install --quiet onnxruntime-gpu==1.31.1

look() { # name of the cache folder, environment
  mkdir -p "$WORK/$1"
  env XDG_CACHE_HOME="$WORK/$1" HOME="$WORK/$1" "${@:2}" "$WORK/venv/bin/python" -c 'import time, onnxruntime; time.sleep(3)'
  (cd "$WORK/$1" && find . -type f | sort)
}

echo "onnxruntime-gpu 1.31.1, files that an import alone leaves behind:"
found=$(look plain A=1)
echo "${found:-none}"
echo "with ORT_DISABLE_TELEMETRY=1:"
off=$(look off ORT_DISABLE_TELEMETRY=1)
echo "${off:-none}"

grep -q "Microsoft/DeveloperTools/.onnxruntime/deviceid" <<<"$found" || { echo "changed: an import leaves no device id"; exit 1; }
[ -z "$off" ] || { echo "changed: the variable does not keep it from that"; exit 1; }
echo "as stated"
