"""The tokens that a last stage generated, and the client's promise to pay for them. Knows no frames in flight."""

from __future__ import annotations

from inference.serving.boundary import BoundaryError
from proto_specs.limits import UNVOUCHED_TOKENS_MAX
from proto_specs.types.common import ZERO_HASH
from proto_specs.types.request import (
    SignedVoucher,
    compute_positions,
    compute_tokens_hash,
    compute_windows,
    is_voucher_signed,
)


class VoucherBook:
    """Generated tokens under their rolling hash, and the best voucher for them."""

    def __init__(self, request: bytes, prompt_tokens: int, session_key: bytes) -> None:
        self._request = request
        self._prompt_tokens = prompt_tokens
        self._session_key = session_key
        self._hashes = [ZERO_HASH]
        self._by_windows: dict[int, SignedVoucher] = {}
        """The best voucher within so many windows. Prefix roots are behind the last one, by what their senders like."""
        self.voucher: SignedVoucher | None = None

    @property
    def tokens(self) -> int:
        """The number of tokens generated so far."""
        return len(self._hashes) - 1

    @property
    def vouched(self) -> int:
        """The number of tokens that the client has promised to pay."""
        return self.voucher.voucher.tokens if self.voucher is not None else 0

    @property
    def is_behind(self) -> bool:
        """Whether the client must vouch before it gets another token. Two windows besides the current may be late."""
        return self.tokens - self.vouched > UNVOUCHED_TOKENS_MAX

    @property
    def is_complete(self) -> bool:
        """Whether the client has vouched for every token."""
        return self.voucher is not None and self.vouched == self.tokens

    def add_token(self, token: int) -> None:
        """Add a generated token."""
        self._hashes.append(compute_tokens_hash(self._hashes[-1], token))

    def accept(self, signed: SignedVoucher, windows_signed: int, is_finished: bool) -> None:
        """Keep a voucher. Raises BoundaryError for a voucher that could not be settled.

        A voucher covers no more than the client has countersigned (`windows_signed` at the last boundary), so that its
        promise can be settled even if nothing more comes from the client. The final voucher comes after the end.
        """
        promised = signed.voucher
        if promised.tokens >= len(self._hashes) or promised.tokens_hash != self._hashes[promised.tokens]:
            raise BoundaryError(f"the voucher's hash over {promised.tokens} tokens is not of the tokens sent")
        if promised.tokens < self.vouched:
            raise BoundaryError("a voucher for fewer tokens than the one before")
        if promised.tokens and self.compute_windows_of(promised.tokens) > windows_signed:
            raise BoundaryError(f"a voucher for {promised.tokens} tokens whose leaves are not countersigned")
        if promised.final and not (is_finished and promised.tokens == self.tokens):
            raise BoundaryError("a final voucher before the end")
        self.validate(signed)
        self.voucher = signed
        self._by_windows[self.compute_windows_of(promised.tokens) if promised.tokens else 0] = signed

    def validate(self, signed: SignedVoucher) -> None:
        """Raises BoundaryError for a voucher of another request, or one that the session key did not sign."""
        if signed.voucher.request != self._request:
            raise BoundaryError("a voucher for another request")
        if not is_voucher_signed(signed, self._session_key):
            raise BoundaryError("the voucher is not signed by the session key")

    def get_voucher(self, windows: int) -> SignedVoucher | None:
        """The best voucher for tokens of the first `windows` whole windows, if the client has given any; 0 has none.

        It need not be for all of them: a client that vouches for odd numbers pays what it vouched for.
        """
        best = max((one for one in self._by_windows if one <= windows), default=None)
        return self._by_windows[best] if windows and best is not None else None

    def compute_windows_of(self, tokens: int) -> int:
        """Windows that hold the positions of the prompt and of `tokens` generated tokens."""
        return compute_windows(compute_positions(self._prompt_tokens, tokens))

    def count_settleable_windows(self, windows_signed: int) -> int:
        """The number of windows that the last voucher settles; 0 when it covers no countersigned window."""
        if self.voucher is None:
            return 0
        windows = self.compute_windows_of(self.vouched)
        return windows if windows <= windows_signed else 0
