"""Verification duty: a process of its own that recomputes what the chain drew, so that blocks never wait for it."""
