"""The process that checks: frames of jobs on standard input, one byte a job on standard output. Ends with its input."""

from __future__ import annotations

import signal
import sys

from node.signatures.jobs import COUNT, JOB_BYTES, JOBS_MAX, check_encoded


def main() -> None:
    """Answer until standard input ends; the terminal's Ctrl-C is the node's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while head := source.read(COUNT.size):
        (count,) = COUNT.unpack(head)
        assert count <= JOBS_MAX, "the node is ours"
        data = source.read(count * JOB_BYTES)
        if len(data) < count * JOB_BYTES:
            return
        sink.write(check_encoded(data))
        sink.flush()


main()
