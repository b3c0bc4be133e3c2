#!/usr/bin/env bash
# Installs the distribution's Chromium for the tests of the chat page, when it may; else says the line to run. Without a
# browser those tests are skipped, so this never fails.
set -euo pipefail

say() { printf 'browser: %s\n' "$*" >&2; }

# The same names, in the same order, as tests/browser/chromium.py.
for name in chromium chromium-browser google-chrome-stable google-chrome; do
  command -v "$name" >/dev/null && exit 0
done

line="apt-get update && apt-get install -y chromium"
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  say "installing chromium"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; } && exit 0
elif command -v apt-get >/dev/null && command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
  say "installing chromium with sudo"
  { sudo apt-get update -qq && sudo DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; } && exit 0
fi
say "no Chromium: the tests of the chat page are skipped. To have one, run: sudo sh -c '$line'"
