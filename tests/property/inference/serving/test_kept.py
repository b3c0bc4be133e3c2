"""Kept rows answer exactly as far as the bytes that come are those that came before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inference.serving.boundary import BoundaryLog
from inference.serving.events import Compute
from inference.serving.kept import KeptRows
from proto_specs.limits import WINDOW_POSITIONS
from proto_specs.types.common import ZERO_HASH
from proto_specs.types.manifest import WireDtype

SIZES = st.integers(1, 3)


def log(rows: list[bytes]) -> BoundaryLog:
    """Rows as they crossed a boundary."""
    made = BoundaryLog(ZERO_HASH, 0, 1, WireDtype.TOKEN)
    for at, row in enumerate(rows):
        made.append(at, 1, row)
    return made


@given(st.data(), st.integers(0, 100), st.integers(0, 100), SIZES, SIZES)
def test_rows_are_the_same_up_to_the_first_other_byte(data, received, answered, input_bytes, output_bytes) -> None:
    answered = min(answered, received)
    byte = st.integers(0, 1)
    rows = [bytes(data.draw(byte) for _ in range(input_bytes)) for _ in range(received)]
    outputs = [bytes([at, *bytes(output_bytes - 1)]) for at in range(answered)]
    kept = KeptRows(log(rows), log(outputs), input_bytes, output_bytes)

    start = data.draw(st.integers(0, received + WINDOW_POSITIONS))
    count = data.draw(st.integers(1, WINDOW_POSITIONS - start % WINDOW_POSITIONS))
    come = list(rows[start : start + count])
    come += [bytes(input_bytes)] * (count - len(come))
    for at in data.draw(st.lists(st.integers(0, count - 1), max_size=2)):
        come[at] = bytes(data.draw(byte) for _ in range(input_bytes))
    same = 0
    while same < count and start + same < answered and come[same] == rows[start + same]:
        same += 1

    payload = b"".join(come)
    assert kept.count_same(start, payload) == same
    known, rest = kept.split(Compute(start, count, payload))
    assert (known is None) == (same == 0)
    assert (rest is None) == (same == count)
    if known is not None:
        assert (known.start, known.count) == (start, same)
        assert known.payload == b"".join(outputs[start : start + same])
    if rest is not None:
        assert (rest.start, rest.count, rest.payload) == (start + same, count - same, b"".join(come[same:]))
