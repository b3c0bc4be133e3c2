"""What the demo holds against an answer that lost a worker, and how a lost worker is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consensus.runtime.inference.state import Request, RequestStage, StageStatus
from node.cli.demo import CheatAndKill, demo_command
from node.cli.demo_kill import SettledPart, compute_undisturbed, compute_wait_s, find_faults
from node.cli.show_inference import shorten_reason
from node.client.answer import RequestOutcome, Resolution
from node.client.chain_view import WorkerEntry

PROMPT, TOKENS, SETTLED = 40, 100, 64
BOB, CHARLIE, DAVE, EVE = (name.encode().ljust(32, b"_") for name in ("bob", "charlie", "dave", "eve"))
RANGES = {BOB: (0, 10), CHARLIE: (10, 20), DAVE: (20, 30), EVE: (10, 20)}
WORKERS = {
    key: WorkerEntry(key, bytes(32), bytes(32), start, end, 10**9, 10**9, "", (), 20, 80, True, False)
    for key, (start, end) in RANGES.items()
}


def make_part(
    path: tuple[bytes, ...], prompt: int, tokens: int, first_window: int, continues: bytes | None
) -> SettledPart:
    positions = prompt + tokens - 1 if continues else SETTLED
    billed = min(prompt, positions) - first_window * 32
    stages = tuple(
        RequestStage(one, bytes(32), *RANGES[one], 10 * (20 * billed + 80 * tokens), 0, StageStatus.PAID, b"", b"", 64)
        for one in path
    )
    price = len(path) * 10 * (20 * billed + 80 * tokens)
    found = Request(
        session=bytes(32),
        sequence=0,
        client=bytes(32),
        model=bytes(32),
        settled_height=9,
        prompt_tokens=prompt,
        tokens=tokens,
        tokens_hash=bytes(32),
        final=continues is not None,
        positions=positions,
        windows=-(-positions // 32),
        first_window=first_window,
        continues=continues,
        price=price,
        escrow=0,
        returned=0,
        root=bytes(32),
        open_stages=0,
        stages=stages,
    )
    request = b"2" * 32 if continues else b"1" * 32
    return SettledPart(request, found, RequestOutcome(request, Resolution.VERIFIED, 9, price, 0, ()))


FIRST = make_part((BOB, CHARLIE, DAVE), PROMPT, SETTLED - PROMPT + 1, 0, None)
SO_FAR = 31
SECOND = make_part((BOB, EVE, DAVE), PROMPT + SO_FAR, TOKENS - SO_FAR, SETTLED // 32, FIRST.request)


def change(part: SettledPart, **fields: object) -> SettledPart:
    return replace(part, found=replace(part.found, **fields))  # type: ignore[arg-type]


def test_a_sound_recovery_has_no_faults() -> None:
    assert find_faults([FIRST, SECOND], WORKERS, CHARLIE) == []
    whole = 3 * 10 * (20 * PROMPT + 80 * TOKENS)
    assert compute_undisturbed([FIRST, SECOND], WORKERS) == whole
    assert FIRST.found.price + SECOND.found.price <= whole


@pytest.mark.parametrize(
    ("parts", "killed", "word"),
    [
        ([FIRST], CHARLIE, "not two"),
        ([FIRST, change(SECOND, continues=b"x" * 32)], CHARLIE, "does not go on"),
        ([FIRST, change(SECOND, first_window=1)], CHARLIE, "billed twice"),
        ([FIRST, change(SECOND, final=False)], CHARLIE, "not settled"),
        ([FIRST, SECOND], EVE, "killed worker is"),
        ([FIRST, change(SECOND, price=SECOND.found.price + 10**6)], CHARLIE, "more than"),
        ([change(FIRST, price=1), SECOND], CHARLIE, "not those of its positions"),
        ([replace(FIRST, outcome=replace(FIRST.outcome, resolution=Resolution.REFUNDED)), SECOND], CHARLIE, "refunded"),
        ([replace(FIRST, outcome=replace(FIRST.outcome, resolution=Resolution.PAID)), SECOND], CHARLIE, "not verified"),
    ],
)
def test_every_fault_is_found(parts: list[SettledPart], killed: bytes, word: str) -> None:
    assert word in "; ".join(find_faults(parts, WORKERS, killed))


def test_cheat_and_kill_exclude_each_other() -> None:
    with pytest.raises(CheatAndKill):
        demo_command(cheat="skip", kill=True)


def test_the_wait_is_some_tokens_long_and_bounded() -> None:
    assert 0.3 < compute_wait_s(5_000) < 1
    assert compute_wait_s(10**9) == 10


@pytest.mark.parametrize(
    ("reason", "short"),
    [
        ("stage 1 (worker 0a1b2c3d4e5f) went away (stream reset)", "went away"),
        ("stage 1 (worker 0a1b2c3d4e5f) does not answer", "does not answer"),
        ("stage 1 (worker 0a1b2c3d4e5f) cannot be reached: /ip4/1.2.3.4: refused", "cannot be reached"),
        ("the shard failed", "the shard failed"),
    ],
)
def test_a_reason_is_told_in_few_words(reason: str, short: str) -> None:
    assert shorten_reason(reason) == short
