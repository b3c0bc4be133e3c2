#!/usr/bin/env bash
# Unpacks the newest CPython that Debian's development suite has into a folder, with its own C library and the three
# wheels the pure packages need, and prints the path of a program that starts it. The system's Python stays as it is.
# usage: newest_python.sh FOLDER PIP   (exit 3: there is none newer to be had here; the reason is on standard error)
set -euo pipefail

folder=$(realpath -m "$1") pip=$2
program=$folder/python
if [ -x "$program" ]; then echo "$program"; exit 0; fi
none() { echo "no newer Python: $1" >&2; exit 3; }

command -v apt-get >/dev/null || none "apt-get is not here"
[ "$(uname -m)" = x86_64 ] || none "this script knows x86_64 alone"
source=$(sed -n 's/^URIs: *//p; s/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/p' /etc/apt/sources.list.d/debian.sources \
  /etc/apt/sources.list 2>/dev/null | head -1 || true)
[ -n "$source" ] || none "no Debian archive is configured"

work=$folder/apt root=$folder/root
mkdir -p "$work"/{etc,lists/partial,cache/archives/partial,deb} "$root"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $source sid main" > "$work/etc/sources.list"
options=(-o "Dir::Etc::sourcelist=$work/etc/sources.list" -o Dir::Etc::sourceparts=/dev/null
  -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o Dir::State::status=/dev/null
  -o APT::Architecture=amd64 -o APT::Sandbox::User=root)
apt-get "${options[@]}" -qq update >&2 || none "the archive does not answer"
version=$(apt-cache "${options[@]}" search --names-only '^python3\.[0-9]+-minimal$' \
  | sed -n 's/^python\(3\.[0-9]*\)-minimal .*/\1/p' | sort -V | tail -1)
[ -n "$version" ] || none "the archive has no Python"

packages=(python"$version"-minimal libpython"$version"-minimal libpython"$version"-stdlib libc6 libgcc-s1 libexpat1
  libzstd1 zlib1g libffi8 libssl3t64 libbz2-1.0 liblzma5 libuuid1)
(cd "$work/deb" && apt-get "${options[@]}" -qq download "${packages[@]}") >&2 || none "the packages cannot be fetched"
for one in "$work"/deb/*.deb; do dpkg-deb --extract "$one" "$root"; done

libraries=$root/usr/lib/x86_64-linux-gnu
cat > "$folder/start" <<END
#!/bin/sh
PYTHONHOME=$root/usr PYTHONPATH=\$PYTHONPATH:$folder/wheels exec \\
  $libraries/ld-linux-x86-64.so.2 --library-path $libraries $root/usr/bin/python$version "\$@"
END
chmod +x "$folder/start"

# The very versions that are pinned here: another libsodium would judge signatures otherwise.
pins=$("$pip" freeze 2>/dev/null | grep -iE '^(msgpack|pynacl|cffi)==')
"$pip" install --quiet --disable-pip-version-check --no-deps --only-binary=:all: --target "$folder/wheels" \
  --python-version "$version" --platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 \
  --implementation cp $pins pycparser >&2 || none "msgpack, cffi or PyNaCl have no wheel for $version"
"$folder/start" -c 'import nacl.bindings, msgpack' || none "$version does not run here"
rm -rf "$work"
mv "$folder/start" "$program"
echo "$program"
