"""A client wants work for nothing by continuations: it claims as paid what is not, or rides on what was paid once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from inference.serving.boundary import BoundaryError, BoundaryLog
from inference.serving.continuing import find_submitter, validate_settled, validate_settled_tokens
from node.worker.fence import Fence
from node.worker.handover import prepare_handover
from node.worker.refusal import OrderRefused
from node.worker.requests import Requests
from node.worker.settled import check_settled
from proto_specs.ed25519 import SigningKey
from proto_specs.types.calls import Settle
from proto_specs.types.manifest import WireDtype
from proto_specs.types.request import (
    SignedOrder,
    compute_prompt_hash,
    compute_request_id,
    pack_tokens,
    read_tokens,
    sign_order,
    sign_stage_roots,
    sign_voucher,
)
from proto_specs.types.wire import FailureCode, OpenRequest
from tests.property.inference.serving.harness import SESSION_KEY, make_manifest
from tests.property.inference.serving.recovery import KEYS, Told, answer
from tests.unit.node.worker.world import DictChain, make_chain

PROMPT_TOKENS = 70
EVE = SigningKey.from_seed(b"e" * 32)
SPARE = KEYS[3].public_key


def lose_a_stage(token: int = 100) -> Told:
    """An answer that lost its middle stage once: its second order continues the first."""
    return answer(PROMPT_TOKENS, 60, 3, 4, [(1, 1, 400, 0)], is_noisy=True, token=token)


@pytest.fixture(scope="module", name="honest")
def fixture_honest() -> OpenRequest:
    """The honest continuation, as the last stage gets it."""
    return make_opened(lose_a_stage())


def make_opened(told: Told) -> OpenRequest:
    first, second = told.attempts
    settled = told.book[first.client.request]
    assert second.client.order.order.settled_positions == settled.stage_roots[0].roots.positions > 0
    return OpenRequest(second.client.order, pack_tokens(second._prompt), settled=settled)  # noqa: SLF001


def get_refusal(opened: OpenRequest, fence: Fence | None = None) -> OrderRefused | None:
    """What a worker without anything of the order before says."""
    try:
        prepare_handover(opened, SESSION_KEY.public_key, SPARE, Requests(), fence or Fence())
    except OrderRefused as refusal:
        return refusal
    return None


def reorder(opened: OpenRequest, key: SigningKey = SESSION_KEY, **fields: Any) -> OpenRequest:
    return replace(opened, order=sign_order(replace(opened.order.order, **fields), key))


def restate(opened: OpenRequest, **fields: Any) -> OpenRequest:
    """Other words of the continuation."""
    stated = opened.order.order.continuation
    assert stated is not None
    return reorder(opened, continuation=replace(stated, **fields))


def test_the_honest_one_is_taken_by_every_stage(honest: OpenRequest) -> None:
    assert get_refusal(honest) is None
    assert get_refusal(replace(honest, prompt=b"")) is None
    order, settled = honest.order.order, honest.settled
    assert settled is not None
    assert find_submitter(order, settled) == KEYS[2].public_key, "the last stage is still there"


def test_nothing_is_free_without_a_settlement(honest: OpenRequest) -> None:
    """Every stage refuses by itself, with or without the prompt."""
    for prompt in (honest.prompt, b""):
        refusal = get_refusal(replace(honest, settled=None, prompt=prompt))
        assert refusal is not None
        assert refusal.code is FailureCode.BAD_ORDER
        assert "settlement of what the order does not bill is missing" in str(refusal)


def test_what_bills_everything_needs_none(honest: OpenRequest) -> None:
    assert get_refusal(replace(restate(honest, settled_positions=0), settled=None)) is None


def change_settled(opened: OpenRequest, change: Callable[[Settle], Settle]) -> OpenRequest:
    assert opened.settled is not None
    return replace(opened, settled=change(opened.settled))


def change_before(**fields: Any) -> Callable[[Settle], Settle]:
    """Another order before, signed as it should be."""

    def change(settled: Settle) -> Settle:
        return replace(settled, order=sign_order(replace(settled.order.order, **fields), SESSION_KEY))

    return change


def change_voucher(key: SigningKey = SESSION_KEY, **fields: Any) -> Callable[[Settle], Settle]:
    def change(settled: Settle) -> Settle:
        return replace(settled, voucher=sign_voucher(replace(settled.voucher.voucher, **fields), key))

    return change


def change_roots(number: int, key: SigningKey | None = None, **fields: Any) -> Callable[[Settle], Settle]:
    """Roots of one stage with other words, signed by the stage, unless by another key."""

    def change(settled: Settle) -> Settle:
        roots = list(settled.stage_roots)
        roots[number] = sign_stage_roots(replace(roots[number].roots, **fields), key or KEYS[number])
        return replace(settled, stage_roots=tuple(roots))

    return change


def unsign_order(settled: Settle) -> Settle:
    return replace(settled, order=SignedOrder(settled.order.order, bytes(64)))


CHANGES: dict[str, Callable[[Settle], Settle]] = {
    "an order of another sequence": change_before(sequence=9),
    "an order of another session": change_before(session=b"s" * 32),
    "an order for another model": change_before(model=b"m" * 32),
    "an order of another prompt": change_before(prompt_tokens=69),
    "an order of another path": lambda one: change_before(path=one.order.order.path[:2])(one),
    "an order that is not signed": unsign_order,
    "a voucher for another request": change_voucher(request=bytes(32)),
    "a voucher for fewer tokens": change_voucher(tokens=1),
    "a voucher for more tokens": lambda one: change_voucher(tokens=one.voucher.voucher.tokens + 1)(one),
    "a voucher by somebody else": change_voucher(EVE),
    "no roots": lambda one: replace(one, stage_roots=()),
    "roots of two stages": lambda one: replace(one, stage_roots=one.stage_roots[:2]),
    "roots of four stages": lambda one: replace(one, stage_roots=(*one.stage_roots, one.stage_roots[2])),
    "roots in another order": lambda one: replace(one, stage_roots=one.stage_roots[::-1]),
    "roots by another key": change_roots(1, EVE),
    "roots of another request": change_roots(0, request=bytes(32)),
    "roots of another stage": change_roots(1, stage=2),
    "roots over other windows": change_roots(2, windows=1),
    "roots over fewer positions": change_roots(0, positions=32, windows=1),
    "roots that do not join": change_roots(1, input_root=b"x" * 32),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_changed_settlement_is_refused_by_every_stage(honest: OpenRequest, change: str) -> None:
    changed = change_settled(honest, CHANGES[change])
    assert changed.settled is not None
    with pytest.raises(BoundaryError):
        validate_settled(changed.order.order, changed.settled, SESSION_KEY.public_key)
    refusal = get_refusal(replace(changed, prompt=b""))
    assert refusal is not None
    assert refusal.code is FailureCode.BAD_ORDER or refusal.code is FailureCode.BAD_INPUT


@pytest.mark.parametrize("stage", range(3))
def test_all_stages_together_must_have_signed(honest: OpenRequest, stage: int) -> None:
    assert get_refusal(change_settled(honest, change_roots(stage, EVE))) is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"request": bytes(32)},
        {"answer_start": PROMPT_TOKENS - 1},
        {"settled_positions": 32},
        {"settled_positions": 96},
        {"epoch": 0},
    ],
)
def test_an_order_that_says_other_things_of_it_is_refused(honest: OpenRequest, fields: dict[str, Any]) -> None:
    opened = restate(honest, **fields)
    assert opened.order.order.settled_positions != 0
    if opened.order.order != honest.order.order:
        assert get_refusal(opened) is not None


def test_a_later_part_of_the_answer_does_not_pay_for_an_earlier_order() -> None:
    told = answer(PROMPT_TOKENS, 100, 3, 4, [(1, 1, 400, 0), (1, 1, 400, 0)], is_noisy=True)
    _, second, third = told.attempts
    order, settled = third.client.order.order, told.book[second.client.request]
    assert order.continuation is not None
    assert order.continuation.request == second.client.request
    validate_settled(order, settled, SESSION_KEY.public_key)
    older = replace(order, continuation=replace(order.continuation, epoch=1))
    with pytest.raises(BoundaryError, match="earlier part"):
        validate_settled(older, settled, SESSION_KEY.public_key)


def test_the_settlement_of_somebody_else_frees_nobody(honest: OpenRequest) -> None:
    """Eve saw a settlement on chain; her order names it, her session did not pay it."""
    stolen = reorder(honest, EVE, session=b"e" * 32)
    assert stolen.settled is not None
    with pytest.raises(BoundaryError, match="of another request"):
        validate_settled(stolen.order.order, stolen.settled, EVE.public_key)
    as_hers = change_settled(stolen, lambda one: change_before(session=b"e" * 32)(one))
    with pytest.raises(BoundaryError):
        validate_settled(as_hers.order.order, as_hers.settled or honest.settled, EVE.public_key)  # type: ignore[arg-type]


def test_a_settlement_for_an_order_that_goes_on_from_none_is_refused(honest: OpenRequest) -> None:
    refusal = get_refusal(reorder(honest, continuation=None))
    assert refusal is not None
    assert "goes on from none" in str(refusal)


# Unrelated answers ---------------------------------------------------------------------------------------------------


def ask_other_text(opened: OpenRequest, at: int) -> OpenRequest:
    """The same order over a prompt of which one token differs."""
    tokens = list(read_tokens(opened.prompt))
    tokens[at] ^= 1
    prompt = pack_tokens(tokens)
    return replace(reorder(opened, prompt_hash=compute_prompt_hash(prompt)), prompt=prompt)


def test_what_was_paid_for_one_text_does_not_pay_for_another(honest: OpenRequest) -> None:
    """The attack: one long prompt is paid, and many others of its length are read for nothing."""
    settled = honest.order.order.settled_positions
    for at in (0, 31, PROMPT_TOKENS, settled - 1):
        refusal = get_refusal(ask_other_text(honest, at))
        assert refusal is not None
        assert "over other tokens" in str(refusal)
    assert get_refusal(ask_other_text(honest, settled)) is None, "what is billed may be anything"


def test_two_settled_requests_of_a_session_do_not_mix(honest: OpenRequest) -> None:
    other = make_opened(lose_a_stage(token=200))
    assert other.settled is not None
    assert other.settled != honest.settled
    assert get_refusal(replace(honest, settled=other.settled)) is not None
    named = restate(honest, request=compute_request_id(other.settled.order.order))
    assert get_refusal(replace(named, settled=other.settled)) is not None


def test_a_last_stage_that_got_no_whole_prompt_is_not_told_a_lie(honest: OpenRequest) -> None:
    assert honest.settled is not None
    with pytest.raises(BoundaryError):
        validate_settled_tokens(honest.order.order, honest.settled, honest.prompt[: 4 * 40])


# The same text again -------------------------------------------------------------------------------------------------


def forge(opened: OpenRequest, keys: Sequence[SigningKey], **fields: Any) -> OpenRequest:
    """The order before as if other workers had served it: it takes nothing but keys."""
    assert opened.settled is not None
    old = opened.settled.order.order
    path = tuple(replace(one, worker=key.public_key) for one, key in zip(old.path, keys, strict=True))
    before = replace(old, path=path, **fields)
    request = compute_request_id(before)
    voucher = sign_voucher(replace(opened.settled.voucher.voucher, request=request), SESSION_KEY)
    log = BoundaryLog(request, 0, 1, WireDtype.TOKEN)
    for start in range(0, opened.order.order.settled_positions, 32):
        log.append(start, 32, opened.prompt[4 * start : 4 * start + 128])
        log.close_window(log.make_leaf(log.leaves), b"")
    stated = [replace(one.roots, request=request) for one in opened.settled.stage_roots]
    stated[0] = replace(stated[0], input_root=log.compute_root())
    roots = tuple(sign_stage_roots(one, key) for one, key in zip(stated, keys, strict=True))
    forged = restate(opened, request=request)
    return replace(forged, settled=Settle(sign_order(before, SESSION_KEY), voucher, roots))


def make_world(opened: OpenRequest) -> DictChain:
    """All of the old path and of the new one serve the model, and the session has what both orders may cost."""
    chain, order = make_chain(), opened.order.order
    entry, session = next(iter(chain.workers.values())), next(iter(chain.sessions.values()))
    assert opened.settled is not None
    for one in (*order.path, *opened.settled.order.order.path):
        chain.workers[one.worker] = replace(entry, worker=one.worker, model=order.model)
    chain.sessions[order.session] = replace(session, deposit=10**6)
    return chain


async def check_on_chain(opened: OpenRequest, chain: DictChain) -> None:
    order = opened.order.order
    await check_settled(order, opened.settled, chain.sessions[order.session], make_manifest(), chain)


def set_apart(opened: OpenRequest) -> OpenRequest:
    """With a slice of its own, as the pool of a client gives."""
    assert opened.settled is not None
    end = opened.settled.order.order.slice_end
    return reorder(opened, slice_start=end, slice_end=end + 100_000)


async def test_what_the_chain_would_take_is_taken(honest: OpenRequest) -> None:
    opened = set_apart(honest)
    await check_on_chain(opened, make_world(opened))


async def test_workers_that_are_none_pay_for_nothing(honest: OpenRequest) -> None:
    """The attack: the client makes keys, signs with them that a long prompt was computed, and has it computed."""
    mallory = [SigningKey.from_seed(bytes([200 + one]) * 32) for one in range(3)]
    opened = set_apart(honest)
    forged = forge(opened, [KEYS[0], *mallory[1:]])
    assert get_refusal(forged) is None, "all signatures are in order"
    with pytest.raises(OrderRefused, match="no worker of the model"):
        await check_on_chain(forged, make_world(opened))
    with pytest.raises(OrderRefused, match="no worker of its path goes on"):
        await check_on_chain(forge(opened, mallory), make_world(opened))


async def test_a_settlement_without_survivors_is_worth_what_the_chain_shows(honest: OpenRequest) -> None:
    opened = set_apart(honest)
    moved = forge(opened, KEYS[5:8])
    chain, request = make_world(moved), moved.order.order.continuation
    assert request is not None
    for shown, is_taken in ((None, False), (32, False), (moved.order.order.settled_positions, True)):
        chain.settled = {} if shown is None else {request.request: shown}
        if is_taken:
            await check_on_chain(moved, chain)
        else:
            with pytest.raises(OrderRefused, match="not on chain"):
                await check_on_chain(moved, chain)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"slice_end": 10**7}, "does not pay"),
        ({"slice_end": 10}, "does not pay"),
        ({"slice_end": 150_000}, "only one of"),
        ({"sequence": 1}, "only one of"),
        ({"service_class": 7}, "class"),
    ],
)
async def test_an_order_before_that_cannot_be_settled_frees_nothing(
    honest: OpenRequest, fields: dict[str, Any], why: str
) -> None:
    opened = set_apart(honest)
    with pytest.raises(OrderRefused, match=why):
        await check_on_chain(forge(opened, KEYS[:3], **fields), make_world(opened))


async def test_without_a_chain_nothing_is_freed(honest: OpenRequest) -> None:
    opened = set_apart(honest)
    chain = make_world(opened)
    chain.is_reachable = False
    with pytest.raises(OrderRefused) as refused:
        await check_on_chain(opened, chain)
    assert refused.value.code is FailureCode.INTERNAL


def test_an_order_before_over_no_path_is_refused(honest: OpenRequest) -> None:
    """It was an IndexError inside the worker."""
    refusal = get_refusal(forge_empty(honest))
    assert refusal is not None
    assert refusal.code is FailureCode.BAD_ORDER


def forge_empty(opened: OpenRequest) -> OpenRequest:
    assert opened.settled is not None
    before = sign_order(replace(opened.settled.order.order, path=()), SESSION_KEY)
    forged = restate(opened, request=compute_request_id(before.order))
    return replace(forged, settled=replace(opened.settled, order=before, stage_roots=()))
