"""Virtual time: callbacks in their order, and the product's clock set to it."""

from __future__ import annotations

import pytest
import trio

from node.sim.network.events import VirtualTime, finish, run_virtually


def test_callbacks_run_by_time_then_by_registration() -> None:
    virtual, ran = VirtualTime(), []
    virtual.after(2.0, ran.append, "late")
    virtual.after(1.0, ran.append, "first")
    virtual.after(1.0, ran.append, "second")
    virtual.after(9.0, ran.append, "never")
    virtual.run(5.0)
    assert ran == ["first", "second", "late"]
    assert virtual.now_s == 5.0


def test_trio_reads_the_virtual_time() -> None:
    virtual, read = VirtualTime(), []
    virtual.after(3.5, lambda: read.append(trio.current_time()))
    run_virtually(virtual, lambda: virtual.run(4.0))
    assert read == [3.5]


def test_a_coroutine_that_waits_is_a_mistake() -> None:
    async def wait() -> None:
        await trio.sleep_forever()

    def work() -> None:
        finish(wait())

    with pytest.raises(RuntimeError, match="answers at once"):
        run_virtually(VirtualTime(), work)
