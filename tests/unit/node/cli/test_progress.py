"""The progress line of a terminal: gone before the answer, and never there where nobody watches."""

from __future__ import annotations

import sys

import pytest

from node.cli.errors import CliError
from node.cli.failing import end_in_one_line
from node.cli.progress import clear_progress, report_progress


def test_on_a_terminal_the_answer_begins_on_an_empty_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    for done, total in ((1_000, 2_000), (7, 0), (0, 0)):
        report_progress("items", done, total)
    clear_progress()
    said = capsys.readouterr().err
    assert said == "\r\x1b[Kitems: 1,000 of 2,000\r\x1b[Kitems: 7\r\x1b[Kitems\r\x1b[K"
    report_progress("items", 1, 2)
    with pytest.raises(SystemExit), end_in_one_line(lambda: False):
        raise CliError("no")
    assert capsys.readouterr().err.endswith("items: 1 of 2\r\x1b[Kerror: no\n")


def test_elsewhere_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    report_progress("items", 1, 2)
    clear_progress()
    assert capsys.readouterr() == ("", "")
