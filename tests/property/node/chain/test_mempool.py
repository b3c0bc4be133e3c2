"""Any order of additions and blocks leaves the pool within its bounds, consistent, and its selection executable."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from consensus.runtime.errors import InvalidTransaction
from node.chain.mempool import Mempool
from tests.unit.node.pools import FEE, FixedLedger, make_rooms, make_transaction, make_validity

COUNT_MAX = 6
BYTES_MAX = 900
SIGNERS = st.integers(1, 4)


class Pool(RuleBasedStateMachine):
    """Four accounts, a small pool, and a dict that says what the chain would."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = Mempool(COUNT_MAX, BYTES_MAX)
        self.height = 1
        self.nonces = dict.fromkeys(range(1, 5), 0)
        self.salt = 0

    @rule(
        signer=SIGNERS,
        ahead=st.integers(0, 3),
        tip=st.sampled_from([0, 1, 10, 11, 100]),
        size=st.sampled_from([50, 100, 400]),
        free=st.sampled_from([2 * FEE, 100 * FEE]),
        life=st.sampled_from([None, 1, 3]),
    )
    def add(self, signer: int, ahead: int, tip: int, size: int, free: int, life: int | None) -> None:
        """A refusal changes nothing; what is taken is there."""
        self.salt = (self.salt + 1) % 256
        transaction = make_transaction(signer, self.nonces[signer] + ahead, tip, self.salt)
        expires = None if life is None else self.height + life
        validity = make_validity(transaction, self.nonces[signer], size_bytes=size, free=free, expires=expires)
        before = (set(self.pool), self.pool.size_bytes)
        try:
            self.pool.add(transaction, validity, self.height)
        except InvalidTransaction:
            assert (set(self.pool), self.pool.size_bytes) == before
        else:
            assert validity.extrinsic in self.pool

    @rule(count=st.integers(0, 3))
    def include(self, count: int) -> None:
        """A block takes the best; the chain's nonces follow."""
        taken = [one for one, _ in zip(self.pool.select(make_rooms()), range(count), strict=False)]
        for one in taken:
            assert one.body.nonce == self.nonces[one.body.signer[0]], "nonces come in order, from the account's on"
            self.nonces[one.body.signer[0]] += 1
        self.height += 1
        self.pool.advance(self.height, FixedLedger({who: (nonce, 10**9) for who, nonce in self.nonces.items()}))
        assert not set(taken) & set(self.pool)

    @invariant()
    def bounded_and_consistent(self) -> None:
        """Within bounds; no two for one nonce; the next nonce is the first gap; prices never rise within a choice."""
        waiting = list(self.pool)
        assert len(waiting) == len(self.pool) <= COUNT_MAX
        assert self.pool.size_bytes <= BYTES_MAX
        places = {(one.body.signer[0], one.body.nonce) for one in waiting}
        assert len(places) == len(waiting)
        for signer, nonce in self.nonces.items():
            following = self.pool.get_next_nonce(bytes([signer]) * 32, nonce)
            assert all((signer, one) in places for one in range(nonce, following))
            assert (signer, following) not in places
            ready = [one.body.nonce for one in self.pool.select(make_rooms()) if one.body.signer[0] == signer]
            assert ready == list(range(nonce, following))


TestPool = Pool.TestCase
