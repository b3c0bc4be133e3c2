"""The mempool rule by rule: order, replacement, room, gaps, purses, age."""

from __future__ import annotations

import pytest

from consensus.runtime.errors import CannotPayFee
from consensus.runtime.system.space import Room, Space
from node.chain.mempool import (
    NONCE_GAP_MAX,
    PER_ACCOUNT_MAX,
    RESERVED_PER_ACCOUNT_MAX,
    TTL_BLOCKS,
    AlreadyKnown,
    Mempool,
    NonceTooFar,
    PoolFull,
    ReplacementUnderpriced,
)
from tests.unit.node.pools import (
    FEE,
    WEIGHT,
    FixedLedger,
    fill,
    make_rooms,
    make_transaction,
    make_validity,
    select_all,
)


def test_accounts_in_order_of_price_each_in_order_of_nonce() -> None:
    pool = Mempool()
    fill(pool, (1, 0, 5), (1, 1, 900), (2, 0, 50), (3, 0, 7), (2, 1, 1))
    assert select_all(pool) == [(2, 0), (3, 0), (1, 0), (1, 1), (2, 1)]


def test_equals_in_order_of_arrival() -> None:
    pool = Mempool()
    fill(pool, (3, 0, 5), (1, 0, 5), (2, 0, 5))
    assert select_all(pool) == [(3, 0), (1, 0), (2, 0)]


def test_price_is_tip_for_the_room_taken() -> None:
    pool = Mempool()
    heavy, light = make_transaction(1, 0, 1_000), make_transaction(2, 0, 500)
    pool.add(heavy, make_validity(heavy, weight=10 * WEIGHT), 1)
    pool.add(light, make_validity(light), 1)
    assert select_all(pool) == [(2, 0), (1, 0)]


def test_a_gap_is_waited_for() -> None:
    pool = Mempool()
    fill(pool, (1, 1, 0), (1, 2, 0))
    assert select_all(pool) == []
    assert pool.get_next_nonce(bytes([1]) * 32, 0) == 0
    fill(pool, (1, 0, 0))
    assert select_all(pool) == [(1, 0), (1, 1), (1, 2)]
    assert pool.get_next_nonce(bytes([1]) * 32, 0) == 3


def test_selection_stops_when_the_block_is_full() -> None:
    pool = Mempool()
    fill(pool, *((1, nonce, 0) for nonce in range(10)))
    assert len(list(pool.select(make_rooms(3 * WEIGHT)))) == 3
    assert len(list(pool.select(make_rooms(bytes_max=4 * 100 + 99)))) == 4


@pytest.mark.parametrize(("weight_max", "bytes_max"), [(5 * WEIGHT, 10**9), (10**9, 4_000)])
def test_what_fits_into_no_block_keeps_nobody_else_out(weight_max: int, bytes_max: int) -> None:
    pool = Mempool()
    large = make_transaction(1, 0, 10**9)
    pool.add(large, make_validity(large, weight=5 * WEIGHT + 1, size_bytes=4_001), 1)
    fill(pool, (1, 1, 900), (2, 0, 1), (2, 1, 1))
    assert [(one.body.signer[0], one.body.nonce) for one in pool.select(make_rooms(weight_max, bytes_max))] == [
        (2, 0),
        (2, 1),
    ]


def test_the_same_transaction_is_known() -> None:
    pool = Mempool()
    (one,) = fill(pool, (1, 0, 0))
    with pytest.raises(AlreadyKnown):
        pool.add(one, make_validity(one), 1)
    assert len(pool) == 1


@pytest.mark.parametrize(
    ("old", "new", "is_taken"),
    [(0, 0, False), (0, 1, True), (100, 109, False), (100, 110, True), (5, 5, False), (5, 6, True), (15, 16, False)],
)
def test_replacement_at_ten_percent_more(old: int, new: int, is_taken: bool) -> None:
    pool = Mempool()
    (first,) = fill(pool, (1, 0, old))
    second = make_transaction(1, 0, new, salt=1)
    if is_taken:
        pool.add(second, make_validity(second), 1)
        assert list(pool) == [second]
    else:
        with pytest.raises(ReplacementUnderpriced) as refused:
            pool.add(second, make_validity(second), 1)
        third = make_transaction(1, 0, refused.value.details["needed"], salt=2)
        assert list(pool) == [first]
        pool.add(third, make_validity(third), 1)
        assert list(pool) == [third]


def test_too_far_ahead_is_refused_with_the_nonce_to_use() -> None:
    pool = Mempool()
    fill(pool, (1, 0, 0), (1, 1, 0), (1, 2 + NONCE_GAP_MAX, 0))
    far = make_transaction(1, 3 + NONCE_GAP_MAX)
    with pytest.raises(NonceTooFar) as refused:
        pool.add(far, make_validity(far), 1)
    assert refused.value.details == {"expected": 2}
    assert refused.value.reason == "NonceTooFar"


def test_an_account_has_so_many_waiting_and_no_more() -> None:
    pool = Mempool(transactions_max=10**6)
    fill(pool, *((1, nonce, 0) for nonce in range(PER_ACCOUNT_MAX)))
    one_more = make_transaction(1, PER_ACCOUNT_MAX)
    with pytest.raises(NonceTooFar):
        pool.add(one_more, make_validity(one_more), 1)


def test_a_purse_has_to_pay_for_all_that_waits() -> None:
    pool = Mempool()
    for nonce in range(2):
        one = make_transaction(1, nonce, tip=10)
        pool.add(one, make_validity(one, free=3 * FEE), 1)
    third = make_transaction(1, 2, tip=10)
    with pytest.raises(CannotPayFee) as refused:
        pool.add(third, make_validity(third, free=3 * FEE), 1)
    assert refused.value.details == {"needed": 3 * FEE + 30, "free": 3 * FEE}
    replacing = make_transaction(1, 1, tip=20, salt=1)
    pool.add(replacing, make_validity(replacing, free=2 * FEE + 30), 1)


def test_a_full_pool_drops_the_cheapest_last_of_an_account() -> None:
    pool = Mempool(transactions_max=4)
    fill(pool, (1, 0, 1), (1, 1, 90), (2, 0, 50), (3, 0, 60))
    fill(pool, (4, 0, 70))
    assert sorted(select_all(pool)) == [(1, 0), (1, 1), (3, 0), (4, 0)]
    cheap = make_transaction(5, 0, 60)
    with pytest.raises(PoolFull) as refused:
        pool.add(cheap, make_validity(cheap), 1)
    enough = make_transaction(5, 0, refused.value.details["needed"])
    pool.add(enough, make_validity(enough), 1)
    assert sorted(select_all(pool)) == [(1, 0), (1, 1), (4, 0), (5, 0)]


def test_room_in_bytes_is_made_by_as_many_as_it_takes_or_by_none() -> None:
    pool = Mempool(bytes_max=400)
    before = fill(pool, (1, 0, 1), (2, 0, 2), (3, 0, 90), (4, 0, 91))
    big = make_transaction(5, 0, 80)
    with pytest.raises(PoolFull):
        pool.add(big, make_validity(big, size_bytes=250), 1)
    assert set(pool) == set(before)
    assert pool.size_bytes == 400
    pool.add(big, make_validity(big, size_bytes=200), 1)
    assert sorted(select_all(pool)) == [(3, 0), (4, 0), (5, 0)]
    assert pool.size_bytes == 400


def test_a_newcomer_never_pushes_out_its_own_forerunner() -> None:
    pool = Mempool(transactions_max=2)
    fill(pool, (1, 0, 1), (2, 0, 50))
    second = make_transaction(1, 1, 40)
    with pytest.raises(PoolFull):
        pool.add(second, make_validity(second), 1)
    dear = make_transaction(1, 1, 60)
    pool.add(dear, make_validity(dear), 1)
    assert select_all(pool) == [(1, 0), (1, 1)]


def test_a_replacement_needs_no_more_room_than_it_takes() -> None:
    pool = Mempool(transactions_max=2)
    fill(pool, (1, 0, 1), (2, 0, 50))
    new = make_transaction(1, 0, 2, salt=1)
    pool.add(new, make_validity(new), 1)
    assert len(pool) == 2


def test_a_block_takes_what_it_included_and_its_like() -> None:
    pool = Mempool()
    fill(pool, (1, 0, 0), (1, 1, 0), (1, 2, 0), (2, 0, 0))
    pool.advance(2, FixedLedger({1: (2, 10**12)}))
    assert sorted(select_all(pool)) == [(1, 2), (2, 0)]


def test_what_can_no_longer_be_paid_goes_and_what_comes_before_stays() -> None:
    pool = Mempool()
    fill(pool, (1, 0, 0), (1, 1, 0), (1, 2, 0))
    pool.advance(2, FixedLedger({1: (0, 2 * FEE)}))
    assert select_all(pool) == [(1, 0), (1, 1)]
    pool.advance(3, FixedLedger({1: (0, 2 * FEE)}, fee=FEE + 1))
    assert select_all(pool) == [(1, 0)]


def test_age_and_mortality() -> None:
    pool = Mempool()
    mortal, immortal = make_transaction(1, 0), make_transaction(2, 0)
    pool.add(mortal, make_validity(mortal, expires=5), 1)
    pool.add(immortal, make_validity(immortal), 1)
    pool.advance(4, FixedLedger())
    assert set(pool) == {mortal, immortal}
    pool.advance(5, FixedLedger())
    assert set(pool) == {immortal}
    pool.advance(TTL_BLOCKS, FixedLedger())
    assert set(pool) == {immortal}
    pool.advance(TTL_BLOCKS + 1, FixedLedger())
    assert len(pool) == pool.size_bytes == 0


def add(pool: Mempool, signer: int, nonce: int, tip: int, space: Space = Space.COMMON) -> None:
    one = make_transaction(signer, nonce, tip)
    pool.add(one, make_validity(one, space=space), 1)


def test_verdicts_are_offered_when_the_rest_of_a_block_is_full() -> None:
    """However little they pay: common ones cannot have that room."""
    pool = Mempool()
    for signer in range(1, 9):
        add(pool, signer, 0, 1_000 * signer)
    add(pool, 20, 0, 0, Space.DUTY)
    add(pool, 21, 0, 1, Space.SETTLEMENT)
    add(pool, 22, 0, 2, Space.SETTLEMENT)
    rooms = {
        Space.COMMON: Room(3 * WEIGHT, 10**9, 10**9),
        Space.SETTLEMENT: Room(4 * WEIGHT, 10**9, 10**9),
        Space.DUTY: Room(5 * WEIGHT, 10**9, 10**9),
    }
    assert [one.body.signer[0] for one in pool.select(rooms)] == [8, 7, 6, 22, 20]


def test_a_flood_of_transfers_pushes_out_no_verdict() -> None:
    """Up to an eighth of the pool each, verdicts and settlements come in at any price and stay."""
    pool = Mempool(transactions_max=80)
    for signer in range(1, 81):
        add(pool, signer, 0, 500)
    for signer in range(100, 106):
        add(pool, signer, 0, 0, Space.DUTY)
        add(pool, signer + 50, 0, 0, Space.SETTLEMENT)
    assert len(pool) == 80
    for signer in range(200, 240):
        add(pool, signer, 0, 10**6)
    left = [one.body.signer[0] for one in pool]
    assert [one for one in left if 100 <= one < 160] == [
        one for pair in zip(range(100, 106), range(150, 156), strict=True) for one in pair
    ]


def test_reserved_ones_above_their_share_compete_like_all_others() -> None:
    pool = Mempool(transactions_max=16)
    for signer in range(1, 17):
        add(pool, signer, 0, 500)
    for signer in range(100, 103):
        add(pool, signer, 0, 0, Space.SETTLEMENT)
    with pytest.raises(PoolFull):
        add(pool, 103, 0, 0, Space.SETTLEMENT)
    add(pool, 103, 0, 501, Space.SETTLEMENT)
    assert len(pool) == 16


def test_nothing_common_hides_before_a_reserved_one() -> None:
    """An account's last one is reserved, those before are not: the account is as its least."""
    pool = Mempool(transactions_max=3)
    add(pool, 1, 0, 1)
    add(pool, 1, 1, 1, Space.DUTY)
    add(pool, 2, 0, 50)
    add(pool, 3, 0, 60)
    assert sorted(select_all(pool)) == [(1, 0), (2, 0), (3, 0)]


def test_one_account_keeps_no_more_than_its_share() -> None:
    pool = Mempool(transactions_max=10**6)
    for nonce in range(RESERVED_PER_ACCOUNT_MAX + 1):
        add(pool, 1, nonce, 0, Space.DUTY)
    rooms = make_rooms() | {Space.COMMON: Room(0, 0, 0)}
    assert len(list(pool.select(rooms))) == RESERVED_PER_ACCOUNT_MAX
