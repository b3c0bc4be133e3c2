"""Where the distribution's Chromium is, and how the tests start it."""

from __future__ import annotations

import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
NO_BROWSER = "no Chromium here: scripts/browser.sh installs the distribution's"
LAUNCH_ARGS = ["--no-sandbox", "--disable-gpu", "--force-color-profile=srgb"]
"""No sandbox: tests run as root in containers, and open nothing but their own page."""


def find_chromium() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)
