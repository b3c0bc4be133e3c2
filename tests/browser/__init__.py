"""The chat page in a real Chromium, before a gateway that the tests script."""
