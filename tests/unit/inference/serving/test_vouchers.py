"""What a last stage takes as a promise to pay: nothing that could not be settled if it were the client's last word."""

from __future__ import annotations

import pytest

from inference.serving.boundary import BoundaryError
from inference.serving.vouchers import VoucherBook
from proto_specs.ed25519 import SigningKey
from proto_specs.limits import UNVOUCHED_TOKENS_MAX
from proto_specs.types.common import ZERO_HASH
from proto_specs.types.request import SignedVoucher, Voucher, compute_tokens_hash, sign_voucher

REQUEST = b"r" * 32
KEY = SigningKey.from_seed(b"k" * 32)
PROMPT = 40


def make_book(tokens: int) -> VoucherBook:
    book = VoucherBook(REQUEST, PROMPT, KEY.public_key)
    for token in range(tokens):
        book.add_token(token)
    return book


def make_voucher(tokens: int, final: bool = False, request: bytes = REQUEST, key: SigningKey = KEY) -> SignedVoucher:
    rolling = ZERO_HASH
    for token in range(tokens):
        rolling = compute_tokens_hash(rolling, token)
    return sign_voucher(Voucher(request, tokens, rolling, final), key)


def test_generation_waits_for_vouchers() -> None:
    book = make_book(UNVOUCHED_TOKENS_MAX)
    assert not book.is_behind
    book.add_token(UNVOUCHED_TOKENS_MAX)
    assert book.is_behind
    book.accept(make_voucher(25), windows_signed=2, is_finished=False)
    assert not book.is_behind
    assert book.vouched == 25


@pytest.mark.parametrize(
    ("voucher", "signed", "finished", "why"),
    [
        (make_voucher(25, request=b"o" * 32), 2, False, "another request"),
        (make_voucher(61), 9, False, "not of the tokens sent"),
        (SignedVoucher(Voucher(REQUEST, 2**32 - 1, ZERO_HASH, False), bytes(64)), 9, False, "not of the tokens sent"),
        (SignedVoucher(Voucher(REQUEST, 5, ZERO_HASH, False), bytes(64)), 9, False, "not of the tokens sent"),
        (make_voucher(26), 2, False, "not countersigned"),
        (make_voucher(25, final=True), 2, False, "before the end"),
        (make_voucher(25, final=True), 2, True, "before the end"),
        (make_voucher(60, final=True), 4, False, "before the end"),
        (make_voucher(25, key=SigningKey.from_seed(b"x" * 32)), 2, False, "not signed"),
    ],
)
def test_what_cannot_be_settled_is_refused(voucher: SignedVoucher, signed: int, finished: bool, why: str) -> None:
    book = make_book(60)
    with pytest.raises(BoundaryError, match=why):
        book.accept(voucher, signed, finished)
    assert book.voucher is None


def test_promises_only_grow() -> None:
    book = make_book(60)
    book.accept(make_voucher(57), 3, False)
    with pytest.raises(BoundaryError, match="fewer"):
        book.accept(make_voucher(25), 3, False)
    assert book.vouched == 57


def test_settleable_windows_are_those_the_voucher_covers() -> None:
    book = make_book(60)
    assert book.count_settleable_windows(9) == 0
    book.accept(make_voucher(0), 1, False)
    assert book.count_settleable_windows(1) == 0
    assert book.count_settleable_windows(2) == 2
    book.accept(make_voucher(25), 2, False)
    assert book.count_settleable_windows(3) == 2
