"""Protocol negotiation as the opener: one write, two answers, and typed failures for all else."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from node.p2p.errors import NetworkError, ProtocolUnsupported, StreamReset
from node.p2p.negotiation import propose_protocol
from tests.unit.node.p2p.pipes import MemoryByteStream, make_pair

GREETING = b"\x13/multistream/1.0.0\n"


async def propose_to(answer: bytes, protocol: str = "/x/1") -> MemoryByteStream:
    ours, theirs = make_pair()
    await theirs.write(answer)
    await theirs.finish()
    await propose_protocol(ours, protocol)
    return theirs


async def test_the_proposal_goes_out_at_once_and_is_accepted() -> None:
    theirs = await propose_to(GREETING + b"\x05/x/1\n")
    assert bytes(theirs.inbox) == GREETING + b"\x05/x/1\n"


async def test_a_long_protocol_id_has_a_two_byte_length() -> None:
    protocol = "/" + "x" * 298
    theirs = await propose_to(GREETING + b"\xac\x02" + protocol.encode() + b"\n", protocol)
    assert bytes(theirs.inbox)[len(GREETING) :] == b"\xac\x02" + protocol.encode() + b"\n"


async def test_bytes_after_the_answer_are_left_on_the_stream() -> None:
    ours, theirs = make_pair()
    await theirs.write(GREETING + b"\x05/x/1\n" + b"first words")
    await propose_protocol(ours, "/x/1")
    assert await ours.read(100) == b"first words"


async def test_a_refusal_is_told_from_garbage() -> None:
    with pytest.raises(ProtocolUnsupported, match="/x/1"):
        await propose_to(GREETING + b"\x03na\n")
    for garbage in (b"", GREETING, b"\x01\n", GREETING + b"\x05/y/1\n", b"\xff\xff\xff", GREETING + b"\xff\x7f"):
        with pytest.raises(StreamReset):
            await propose_to(garbage)


@given(answer=st.binary(max_size=64))
def test_no_answer_makes_it_raise_anything_else(answer: bytes) -> None:
    with pytest.raises(NetworkError):
        trio.run(propose_to, answer)


async def test_an_overlong_protocol_id_is_our_own_bug() -> None:
    with pytest.raises(ValueError, match="too long"):
        await propose_to(b"", "x" * 2000)
