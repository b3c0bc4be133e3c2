"""Two processes of one account, or a damaged file: no session's file is lost, and every escrow is closed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from node.client.escrow_bank import close_left
from node.client.session_files import SessionFileDamaged, SessionFiles, SessionNote, SessionTaken, SessionUnwritable
from tests.unit.node.client.banks import FakeBank, FakeSession

SESSION = b"\x11" * 32
NOTE = SessionNote(SESSION, b"\x01" * 32, bytes(32), 5)
OTHER = SessionNote(SESSION, b"\x02" * 32, bytes(32), 5)


def make_files(base: Path) -> SessionFiles:
    """As each process of the account makes them."""
    return SessionFiles(base, b"g" * 32, b"a" * 32)


def test_a_second_process_with_the_same_nonce_takes_no_file_away(tmp_path: Path) -> None:
    """Both have read one nonce, so both would open a session of one id: the first one's key must stay on disk."""
    first, second = make_files(tmp_path), make_files(tmp_path)
    kept = first.keep(NOTE)
    with pytest.raises(SessionTaken, match="another process"):
        second.keep(OTHER)
    kept.release()
    (left,) = second.take_left()
    assert left.note == NOTE
    left.release()


def test_what_a_dead_process_left_under_the_nonce_is_replaced(tmp_path: Path) -> None:
    """Its transaction never came: the nonce is free."""
    files = make_files(tmp_path)
    files.keep(NOTE).release()
    files.keep(OTHER).release()
    (left,) = files.take_left()
    assert left.note == OTHER
    left.delete()


async def test_a_damaged_file_keeps_no_other_session_open(tmp_path: Path, autojump_clock: Any) -> None:
    files = make_files(tmp_path)
    bank = FakeBank(files)
    for number in (1, 3):
        session = bytes([number]) * 32
        files.keep(SessionNote(session, bytes(32), bytes(32), 5)).release()
        bank.sessions[session] = FakeSession(100, 10, 1)
    (files.directory / f"{'02' * 32}.session").write_bytes(b"{")
    for _ in range(2):
        with pytest.raises(SessionFileDamaged, match="0202"):
            await close_left(bank, files)
    assert bank.closed == [b"\x01" * 32, b"\x03" * 32]


def test_a_disk_that_takes_no_file_is_told_in_a_line(tmp_path: Path) -> None:
    """No bare OSError, which would end the gateway's sessions all together."""
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(SessionUnwritable, match="check the disk"):
        make_files(tmp_path / "taken").keep(NOTE)
