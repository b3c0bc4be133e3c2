"""What travels over the local socket: frames, errors, and what a call costs. A leaf: knows no method."""
