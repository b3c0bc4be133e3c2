#!/usr/bin/env bash
# py-libp2p 0.8.1: `import libp2p` alone loads an mDNS library, a QUIC stack and an HTTP client, and LevelDB's binding as
# soon as that happens to be installed, whatever the host will use. So a rule such as "this process loads no database"
# cannot be kept by a process that talks libp2p, and installing plyvel for one process changes what the others load.
# Seen with libp2p 0.8.1 and plyvel 1.5.1 on Python 3.11:
#   loaded by `import libp2p`: aioquic httpx zeroconf
#   with plyvel beside it: aioquic httpx plyvel zeroconf
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
look() {
  "$folder/venv/bin/python" -c '
import sys

import libp2p

asked = ("aioquic", "httpx", "plyvel", "zeroconf")
print(sys.argv[1], *(one for one in asked if one in sys.modules))
' "$1" | tee -a "$folder/seen"
}
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check libp2p==0.8.1
look 'loaded by `import libp2p`:'
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check plyvel==1.5.1
look 'with plyvel beside it:'
diff "$folder/seen" - <<'SEEN'
loaded by `import libp2p`: aioquic httpx zeroconf
with plyvel beside it: aioquic httpx plyvel zeroconf
SEEN
echo "as stated"
