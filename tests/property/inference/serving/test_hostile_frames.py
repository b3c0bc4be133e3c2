"""Parties that lie with valid signatures: whatever frames come, in whatever order, no machine breaks."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from inference.serving.events import GiveUp
from proto_specs.codec import decode_as, encode
from proto_specs.errors import DecodeError
from proto_specs.types.request import sign_input, sign_output, sign_stage_roots, sign_voucher
from proto_specs.types.wire import Accepted, Countersign, Failed, Frame, OutputLeaf, RootsFrame, Settled, VoucherFrame
from tests.property.inference.serving.harness import CLIENT, SESSION_KEY, WORKER_KEYS, Path, make_order

STAGES = 3
NUMBERS = (0, 1, 2, 31, 32, 33, 64, 255, 2**16 - 1, 2**32 - 1)


def get_key(party: int):
    return SESSION_KEY if party == CLIENT else WORKER_KEYS[party]


def mutate_record(record: Any, generator: random.Random) -> Any:
    """One field changed to a number at a bound, other bytes of its length, or a shorter or doubled list."""
    field = generator.choice(dataclasses.fields(record))
    value = getattr(record, field.name)
    changed: Any = value
    if isinstance(value, bool):
        changed = not value
    elif isinstance(value, int):
        changed = generator.choice((*NUMBERS, value + 1, max(0, value - 1)))
    elif isinstance(value, bytes):
        changed = generator.choice((bytes(len(value)), value[: len(value) // 2], value + value, b""))
    elif isinstance(value, tuple):
        changed = generator.choice((value[:-1], value + value, ()))
    elif dataclasses.is_dataclass(value):
        changed = mutate_record(value, generator)
    return dataclasses.replace(record, **{field.name: changed})


def sign_again(frame: Frame, sender: int, path: Path) -> Frame:
    """What a liar signs, it signs well."""
    key = get_key(sender)
    match frame:
        case OutputLeaf():
            return OutputLeaf(frame.leaf, sign_output(frame.leaf, key))
        case VoucherFrame():
            return VoucherFrame(sign_voucher(frame.voucher.voucher, key))
        case RootsFrame():
            return RootsFrame(
                tuple(sign_stage_roots(one.roots, get_key(at % STAGES)) for at, one in enumerate(frame.roots))
            )
        case Countersign():
            log = path.client._fed if frame.boundary == 0 else path.stages[(frame.boundary - 1) % STAGES]._output  # noqa: SLF001
            leaf = log.get_leaf(frame.window)
            return frame if leaf is None else dataclasses.replace(frame, signature=sign_input(leaf, key))
    return frame


@settings(max_examples=400, deadline=None)
@given(seed=st.integers(0, 2**32), share=st.sampled_from([0.02, 0.1, 0.5]))
def test_no_frame_breaks_a_machine(seed, share) -> None:
    generator = random.Random(seed)
    prompt = tuple(range(100, 100 + generator.choice((1, 5, 32, 45))))
    path: Path

    def tamper(sender: int, receiver: int, frame: Frame) -> Frame:
        if generator.random() > share:
            return frame
        if generator.random() < 0.5:
            path.links.setdefault((sender, receiver), type(path.links[CLIENT, 0])()).append(frame)  # twice
        try:
            changed = sign_again(mutate_record(frame, generator), sender, path)
            return decode_as(Frame, encode(changed, Frame))
        except (DecodeError, TypeError):
            return frame  # such bytes never become a frame

    path = Path(make_order(prompt, generator.choice((1, 3, 40, 64)), STAGES), prompt, None, seed)
    path.do_client(path.client.start())
    path.tamper = tamper
    outcome = path.run()
    for stage in path.stages:
        before = stage.is_done
        effects = stage.handle(Failed(path.client.request, 200, "of another version"))
        assert effects == [] if before else isinstance(effects[-1], GiveUp)
    if outcome.settlement is not None:
        assert len(outcome.settlement.stage_roots) == STAGES


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_frames_out_of_place_break_no_machine(seed) -> None:
    """Every kind of frame to every party, at any time, of any sender."""
    generator = random.Random(seed)
    prompt = tuple(range(100, 140))
    seen: list[Frame] = []

    def tamper(_sender: int, _receiver: int, frame: Frame) -> Frame:
        seen.append(frame)
        return frame

    path = Path(
        make_order(prompt, 40, STAGES), prompt, None, seed, tamper, gone_after=generator.choice((50, 200, None))
    )
    path.run()
    seen += [Accepted(path.client.request), Settled(path.client.request, bytes(32)), RootsFrame(())]
    fresh = Path(make_order(prompt, 40, STAGES), prompt, None, seed)
    for _ in range(300):
        party, frame = generator.choice((CLIENT, 0, 1, 2)), generator.choice(seen)
        if party == CLIENT:
            fresh.client.handle(generator.randrange(STAGES), frame)
        else:
            fresh.stages[party].handle(frame)
