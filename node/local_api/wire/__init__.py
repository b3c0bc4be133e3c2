"""The format of the local socket: frames, errors, and what a call costs. A leaf: it knows no method."""
