"""One stage alone against a neighbour or client that lies, repeats itself, or hurries: each is a GiveUp by its code."""

from __future__ import annotations

import dataclasses

import pytest

from inference.serving.client import ClientRequest, RequestFailed, SettlementSent, TokenReceived
from inference.serving.events import (
    Compute,
    Computed,
    DrawnToken,
    GiveUp,
    StageEffect,
    Stop,
    StopComputing,
    ToClient,
    ToFirst,
)
from inference.serving.opening import OpeningError, authenticate_opening
from inference.serving.record import make_opening
from inference.serving.setup import StageSetup
from inference.serving.stage import StageRequest
from proto_specs.merkle import compute_root
from proto_specs.types.common import ZERO_HASH
from proto_specs.types.manifest import WireDtype
from proto_specs.types.request import (
    Leaf,
    SignedOrder,
    StageRoots,
    Voucher,
    compute_leaf_hash,
    sign_output,
    sign_stage_roots,
    sign_voucher,
)
from proto_specs.types.wire import (
    Accepted,
    FailureCode,
    FinishReason,
    OpenRequest,
    OutputLeaf,
    PromiseFrame,
    RootsFrame,
    Rows,
    Settled,
    Token,
    VoucherFrame,
)
from tests.property.inference.serving.harness import (
    HIDDEN,
    SESSION_KEY,
    WORKER_KEYS,
    Path,
    make_manifest,
    make_order,
    make_sent_leaf,
)

STAGES = 3
ROW = HIDDEN * 4


def make_stage(stage: int, order: SignedOrder) -> StageRequest:
    return StageRequest(StageSetup(order, stage, make_manifest(), SESSION_KEY.public_key, WORKER_KEYS[stage]))


def make_rows(machine: StageRequest, stage: int, start: int, count: int) -> Rows:
    return Rows(machine.request, stage, start, count, bytes(count * (4 if stage == 0 else ROW)))


def get_gave_up(effects: list[StageEffect]) -> GiveUp:
    (found,) = effects
    assert isinstance(found, GiveUp), found
    return found


@pytest.fixture
def order() -> SignedOrder:
    return make_order(tuple(range(100, 140)), 200, STAGES)


@pytest.mark.parametrize("count", [0, 33, 255])
@pytest.mark.parametrize("stage", [0, 1])
def test_a_leaf_over_no_rows_or_too_many_is_refused(order: SignedOrder, stage: int, count: int) -> None:
    machine = make_stage(stage, order)
    width, dtype = (1, WireDtype.TOKEN) if stage == 0 else (HIDDEN, WireDtype.FP32)
    leaf = Leaf(machine.request, stage, 0, 0, count, width, dtype, ZERO_HASH, ZERO_HASH, ZERO_HASH)
    key = SESSION_KEY if stage == 0 else WORKER_KEYS[0]
    assert get_gave_up(machine.handle(OutputLeaf(leaf, sign_output(leaf, key)))).code == FailureCode.BAD_INPUT


def test_a_sender_that_signs_nothing_is_computed_for_three_windows_and_no_further(order: SignedOrder) -> None:
    """Nor is the next stage one whose countersignatures stay away, whatever the client promised."""
    machine = make_stage(1, order)
    machine.handle(promise(machine, 0))
    for window in range(3):
        assert isinstance(machine.handle(make_rows(machine, 1, 32 * window, 32))[0], Compute)
    assert machine.handle(make_rows(machine, 1, 96, 32)) == []
    assert get_gave_up(machine.handle(make_rows(machine, 1, 128, 32))).code == FailureCode.UNVOUCHED


def promise(machine: StageRequest, tokens: int) -> PromiseFrame:
    voucher = Voucher(machine.request, tokens, b"t" * 32 if tokens else ZERO_HASH, False)
    return PromiseFrame(sign_voucher(voucher, SESSION_KEY))


def test_without_a_promise_of_the_client_three_windows_are_computed() -> None:
    """Then the stage waits, says so, and goes on where it stood once the promise is there."""
    machine = make_stage(1, make_order(tuple(range(100, 300)), 50, STAGES))
    for window in range(3):
        assert isinstance(machine.handle(make_rows(machine, 1, 32 * window, 32))[0], Compute)
        assert machine.owed_by_client is None
    assert machine.handle(make_rows(machine, 1, 96, 32)) == []
    assert machine.owed_by_client is not None
    (begun,) = machine.handle(promise(machine, 0))
    assert isinstance(begun, Compute)
    assert (begun.start, begun.count) == (96, 32)
    assert machine.owed_by_client is None


def test_a_promise_is_the_client_s_for_what_came_and_grows(order: SignedOrder) -> None:
    machine = make_stage(1, order)
    machine.handle(make_rows(machine, 1, 0, 32))
    machine.handle(make_rows(machine, 1, 32, 20))
    tokens = 52 - 40 + 1
    assert machine.handle(promise(machine, tokens)) == []
    foreign = sign_voucher(promise(machine, tokens).voucher.voucher, WORKER_KEYS[0])
    elsewhere = sign_voucher(Voucher(bytes(32), 0, ZERO_HASH, False), SESSION_KEY)
    for bad in (
        promise(machine, tokens - 1),
        promise(machine, tokens + 1),
        PromiseFrame(foreign),
        PromiseFrame(elsewhere),
    ):
        other = make_stage(1, order)
        other.handle(make_rows(other, 1, 0, 32))
        other.handle(make_rows(other, 1, 32, 20))
        other.handle(promise(other, tokens))
        get_gave_up(other.handle(bad))


def test_a_last_stage_computes_nothing_ahead_of_its_own_tokens(order: SignedOrder) -> None:
    machine = make_stage(2, order)
    machine.handle(make_rows(machine, 2, 0, 32))
    machine.handle(make_rows(machine, 2, 32, 8))
    answer = machine.handle(Computed(0, 32, b"", bytes(32 * ROW), ()))
    answer += machine.handle(Computed(32, 8, b"", bytes(8 * ROW), (DrawnToken(1000, False),)))
    assert [type(one) for one in answer] == [ToClient, ToFirst]
    assert isinstance(machine.handle(make_rows(machine, 2, 40, 1))[0], Compute)
    get_gave_up(machine.handle(make_rows(machine, 2, 41, 1)))


@pytest.mark.parametrize(
    "token",
    [
        Token(bytes(32), 1, 5, 0),
        Token(bytes(32), 0, 5, 7),
        Token(bytes(32), 200, 5, 0),
    ],
)
def test_tokens_that_are_not_due_are_refused(order: SignedOrder, token: Token) -> None:
    machine = make_stage(0, order)
    prompt = b"".join(one.to_bytes(4, "little") for one in range(100, 140))
    machine.handle(Rows(machine.request, 0, 0, 32, prompt[:128]))
    machine.handle(Rows(machine.request, 0, 32, 8, prompt[128:]))
    get_gave_up(machine.handle(token))


def test_generation_that_does_not_end_is_refused_at_the_first_stage() -> None:
    machine = make_stage(0, make_order((100,), 2, STAGES))
    machine.handle(Rows(machine.request, 0, 0, 1, (100).to_bytes(4, "little")))
    assert isinstance(machine.handle(Token(machine.request, 0, 5, FinishReason.NONE))[0], Compute)
    get_gave_up(machine.handle(Token(machine.request, 1, 5, FinishReason.NONE)))


def test_a_prompt_of_another_hash_is_refused(order: SignedOrder) -> None:
    machine = make_stage(0, order)
    machine.handle(make_rows(machine, 0, 0, 32))
    assert "hash in the order" in get_gave_up(machine.handle(make_rows(machine, 0, 32, 8))).message


def test_a_partial_leaf_does_not_end_the_generation_of_a_last_stage(order: SignedOrder) -> None:
    machine = make_stage(2, order)
    rows = make_rows(machine, 2, 0, 5)
    machine.handle(rows)
    leaf = make_sent_leaf(rows)
    get_gave_up(machine.handle(OutputLeaf(leaf, sign_output(leaf, WORKER_KEYS[1]))))


@pytest.mark.parametrize(
    "changes",
    [{}, {"windows": 2}, {"positions": 33}, {"input_root": b"x" * 32}, {"output_root": b"x" * 32}, {"stage": 0}],
)
def test_roots_that_the_chain_would_refuse_are_refused(changes: dict[str, object]) -> None:
    machine = make_stage(2, make_order((100,), 1, STAGES))
    rows = make_rows(machine, 2, 0, 1)
    machine.handle(rows)
    machine.handle(Computed(0, 1, b"", bytes(ROW), (DrawnToken(1000, False),)))
    leaf = make_sent_leaf(rows)
    machine.handle(OutputLeaf(leaf, sign_output(leaf, WORKER_KEYS[1])))
    root = compute_root([compute_leaf_hash(leaf)])
    first = StageRoots(machine.request, 0, 1, 1, b"i" * 32, b"j" * 32)
    second = dataclasses.replace(StageRoots(machine.request, 1, 1, 1, b"j" * 32, root), **changes)
    signed = tuple(sign_stage_roots(one, WORKER_KEYS[at]) for at, one in enumerate((first, second)))
    answer = machine.handle(RootsFrame(signed))
    assert (answer == []) == (changes == {})
    assert machine.is_done == bool(changes)


def test_a_stop_without_a_voucher_gives_up_with_its_code(order: SignedOrder) -> None:
    machine = make_stage(2, order)
    gave_up = get_gave_up(machine.handle(Stop(FailureCode.NO_ESCROW, "empty")))
    assert (gave_up.code, gave_up.message) == (FailureCode.NO_ESCROW, "empty")
    assert machine.handle(make_rows(machine, 2, 0, 1)) == []


def test_a_stop_passes_down_the_path_once(order: SignedOrder) -> None:
    machine = make_stage(1, order)
    effects = machine.handle(Stop(FailureCode.CANCELLED, "gone"))
    assert isinstance(effects[0], StopComputing)
    assert len(effects) == 2
    assert machine.handle(Stop(FailureCode.CANCELLED, "gone")) == []
    assert machine.handle(make_rows(machine, 1, 0, 1)) == []


def test_a_voucher_for_windows_that_never_were_is_refused(order: SignedOrder) -> None:
    machine = make_stage(0, order)
    voucher = sign_voucher(Voucher(machine.request, 150, ZERO_HASH, False), SESSION_KEY)
    get_gave_up(machine.handle(VoucherFrame(voucher)))


def test_a_first_stage_that_was_fed_everything_needs_no_client() -> None:
    machine = make_stage(0, make_order((100,), 1, STAGES))
    rows = Rows(machine.request, 0, 0, 1, (100).to_bytes(4, "little"))
    machine.handle(rows)
    machine.handle(Token(machine.request, 0, 5, FinishReason.LENGTH))
    leaf = make_sent_leaf(rows)
    assert machine.handle(Stop(FailureCode.CANCELLED, "gone")) != []
    machine = make_stage(0, make_order((100,), 1, STAGES))
    machine.handle(rows)
    machine.handle(Token(machine.request, 0, 5, FinishReason.LENGTH))
    machine.handle(OutputLeaf(leaf, sign_output(leaf, SESSION_KEY)))
    assert machine.handle(Stop(FailureCode.CANCELLED, "gone")) == []
    assert machine.handle(make_rows(machine, 0, 1, 1)) != []


def test_a_root_over_fewer_leaves_than_windows_is_no_opening() -> None:
    """Such roots settle, since the chain cannot count leaves; opening them must not break a verifier."""
    prompt = tuple(range(100, 145))
    outcome = Path(make_order(prompt, 40, 1), prompt, None, seed=9).run()
    assert outcome.settlement is not None
    honest = outcome.settlement.stage_roots[0].roots
    opening = make_opening(outcome.records[0], 2)
    for name, root in (("input_hashes", "input_root"), ("output_hashes", "output_root")):
        fewer = getattr(opening, name)[:1]
        lying = dataclasses.replace(honest, **{root: compute_root(fewer)})
        with pytest.raises(OpeningError, match="other numbers"):
            authenticate_opening(
                dataclasses.replace(opening, **{name: fewer}), lying, 2, SESSION_KEY.public_key, make_manifest()
            )


# The client ---------------------------------------------------------------------------------------------------------


def open_client(tokens_max: int = 3) -> ClientRequest:
    prompt = (100, 101)
    client = ClientRequest(make_order(prompt, tokens_max, STAGES), prompt, SESSION_KEY)
    assert all(isinstance(one.frame, OpenRequest) for one in client.start())  # type: ignore[union-attr]
    for stage in range(STAGES):
        client.handle(stage, Accepted(client.request))
    return client


def test_a_settlement_is_not_believed_before_everything_is_signed() -> None:
    client = open_client()
    (failed,) = client.handle(2, Settled(client.request, b"x" * 32))
    assert isinstance(failed, RequestFailed)
    assert not client.is_signed


def test_a_client_takes_settled_after_its_last_signature() -> None:
    prompt = (100, 101)
    path = Path(make_order(prompt, 3, STAGES), prompt, None, seed=1)
    path.run()
    assert path.client.is_signed
    assert isinstance(path.client.handle(2, Settled(path.client.request, b"x" * 32))[0], SettlementSent)


@pytest.mark.parametrize(
    ("index", "finish"), [(0, FinishReason.LENGTH), (0, 9), (1, FinishReason.NONE), (2, FinishReason.NONE)]
)
def test_a_client_refuses_tokens_that_end_wrongly(index: int, finish: int) -> None:
    client = open_client(3)
    for at in range(index if index == 2 else 0):
        assert isinstance(client.handle(2, Token(client.request, at, 7, FinishReason.NONE))[0], TokenReceived)
    (failed,) = client.handle(2, Token(client.request, index, 7, finish))
    assert isinstance(failed, RequestFailed)


@pytest.mark.parametrize("stage", [0, 1])
def test_only_the_last_stage_sends_tokens(stage: int) -> None:
    client = open_client()
    (failed,) = client.handle(stage, Token(client.request, 0, 7, FinishReason.NONE))
    assert isinstance(failed, RequestFailed)


def test_frames_of_another_request_are_refused() -> None:
    client = open_client()
    (failed,) = client.handle(2, Token(b"o" * 32, 0, 7, FinishReason.NONE))
    assert isinstance(failed, RequestFailed)
    assert failed.code == FailureCode.BAD_INPUT


def test_silence_is_blamed_on_the_stage_that_did_not_accept() -> None:
    prompt = (100,)
    client = ClientRequest(make_order(prompt, 3, STAGES), prompt, SESSION_KEY)
    client.handle(0, Accepted(client.request))
    assert client.get_awaited_stage() == 1
    client.handle(1, Accepted(client.request))
    client.handle(2, Accepted(client.request))
    assert client.get_awaited_stage() == 2
