#!/usr/bin/env bash
# gguf 0.19.0: opening a file with a large vocabulary takes GGUFReader seconds and a hundred times the file's size of
# memory, before any tensor is read and whether or not the vocabulary is wanted: every string of every array becomes
# several numpy arrays over the mapped file. A file of Gemma's vocabulary alone (262,144 tokens with scores and types) has
# 7 MB. A worker that opens many models, or a server with a memory limit, has to read the header itself.
# Seen with gguf 0.19.0 on Python 3.11 (one run on a busy machine: 12.3 s, 652 MiB):
#   file of 7 MB: opened in less than a second? False
#   memory of opening it: over 50 times the file? True
#   the texts alone, read by struct: less than a second? True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check gguf==0.19.0
"$folder/venv/bin/python" - "$folder/vocabulary.gguf" <<'PY'
import sys

import gguf

TOKENS = 262_144
writer = gguf.GGUFWriter(sys.argv[1], "llama")
writer.add_token_list([f"token{number}" for number in range(TOKENS)])
writer.add_token_scores([0.0] * TOKENS)
writer.add_token_types([1] * TOKENS)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.close()
PY
"$folder/venv/bin/python" - "$folder/vocabulary.gguf" <<'PY' | tee "$folder/seen"
import os
import resource
import struct
import sys
import time

import gguf


def get_peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


path = sys.argv[1]
size, before, start = os.path.getsize(path), get_peak(), time.perf_counter()
reader = gguf.GGUFReader(path)
seconds, memory = time.perf_counter() - start, get_peak() - before
print(f"{seconds:.1f} s, {memory >> 20} MiB", file=sys.stderr)
print(f"file of {size / 1e6:.0f} MB: opened in less than a second?", seconds < 1)
print("memory of opening it: over 50 times the file?", memory > 50 * size)

start = time.perf_counter()
data = open(path, "rb").read()
name = b"tokenizer.ggml.tokens"
place = data.index(name) + len(name)
kind, item, count = struct.unpack_from("<IIQ", data, place)  # 9: an array, 8: of strings
assert (kind, item) == (9, 8)
place, texts = place + 16, []
for _ in range(count):
    (length,) = struct.unpack_from("<Q", data, place)
    texts.append(data[place + 8 : place + 8 + length].decode())
    place += 8 + length
seconds = time.perf_counter() - start
assert texts == reader.fields["tokenizer.ggml.tokens"].contents()
print("the texts alone, read by struct: less than a second?", seconds < 1)
PY
diff "$folder/seen" - <<'SEEN'
file of 7 MB: opened in less than a second? False
memory of opening it: over 50 times the file? True
the texts alone, read by struct: less than a second? True
SEEN
echo "as stated"
