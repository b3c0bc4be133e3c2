"""Ctrl-C: first the answer, then the command."""

from __future__ import annotations

import os
import signal

import trio

from node.cli.stop_key import open_stop_key


async def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    await trio.sleep_forever()


async def test_the_first_press_stops_the_answer_and_the_second_the_command() -> None:
    reached = []
    with trio.fail_after(10):
        async with open_stop_key() as key:
            with key.stopping_answer() as answer:
                await press()
            assert answer.cancelled_caught
            assert not key.is_leaving
            reached.append("goes on")
            await press()
            reached.append("never")
    assert key.is_leaving
    assert reached == ["goes on"]


async def test_a_press_while_the_answer_is_being_stopped_leaves() -> None:
    with trio.fail_after(10):
        async with open_stop_key() as key:
            with key.stopping_answer() as answer:
                key.press()
                key.press()
                await trio.sleep_forever()
    assert answer.cancel_called
    assert key.is_leaving


async def test_without_a_press_nothing_is_cancelled() -> None:
    async with open_stop_key() as key:
        with key.stopping_answer() as answer:
            await trio.lowlevel.checkpoint()
    assert not answer.cancel_called
    assert not key.is_leaving
