"""A worker says of its rivals that they are lost, or that they take no rows, so that clients leave those out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from inference.serving.client import RequestFailed
from node.client.attempt import ACCUSED_MAX, RequestAttempts
from node.client.transport import StageLost
from proto_specs.types.wire import FailureCode
from tests.unit.node.client.paid_world import ASK


class Routes:
    """Notes who failed; there is another path as long as `is_wide`."""

    def __init__(self, is_wide: bool = True) -> None:
        self.failed: list[bytes] = []
        self.is_wide = is_wide
        self.memory = SimpleNamespace(note_failed=lambda worker, _now: self.failed.append(worker))

    def has_path(self, _ask: Any, _excluded: Any) -> bool:
        return self.is_wide


def make_attempts(routes: Routes) -> RequestAttempts:
    return RequestAttempts(bytes(32), cast("Any", None), cast("Any", None), cast("Any", routes), ASK)


def make_route(*workers: bytes) -> Any:
    return SimpleNamespace(workers=[SimpleNamespace(worker=one) for one in workers])


def accuse(attempts: RequestAttempts, rival: bytes, failure: RequestFailed) -> None:
    attempts._note_failed(make_route(b"liar", rival, b"last"), failure)  # noqa: SLF001


LIES = (
    RequestFailed(0, FailureCode.NEIGHBOUR_LOST, "stage 1 went away", 1),
    StageLost(0, FailureCode.NEIGHBOUR_LOST, "stage 1 takes no rows", 1),
    RequestFailed(0, FailureCode.NEIGHBOUR_LOST, "it went away"),
    RequestFailed(0, FailureCode.BAD_INPUT, "stage 1 sends what is no rows", 1),
)


async def test_a_worker_that_loses_one_neighbour_after_another_is_left_out(autojump_clock) -> None:
    routes = Routes()
    attempts = make_attempts(routes)
    for number in range(ACCUSED_MAX):
        assert b"liar" not in attempts._excluded  # noqa: SLF001
        accuse(attempts, b"rival%d" % number, LIES[number])
    assert b"liar" in attempts._excluded  # noqa: SLF001
    assert routes.failed[-1] == b"liar"


async def test_it_stays_where_nobody_else_serves_its_layers(autojump_clock) -> None:
    routes = Routes(is_wide=False)
    attempts = make_attempts(routes)
    for number in range(5):
        accuse(attempts, b"rival%d" % number, LIES[0])
    assert b"liar" not in attempts._excluded  # noqa: SLF001


async def test_only_a_neighbour_that_was_lost_is_blamed_by_another(autojump_clock) -> None:
    """A stage that cannot go on for a reason of its own says so of itself."""
    for code in (FailureCode.INTERNAL, FailureCode.NO_CAPACITY, FailureCode.LEAVING, FailureCode.MOVED):
        routes = Routes()
        accuse(make_attempts(routes), b"rival", RequestFailed(0, code, "it is all the fault of stage 1", 1))
        assert routes.failed == [b"liar"]


async def test_who_was_sent_bad_rows_is_not_left_out_for_them(autojump_clock) -> None:
    """Stage 1 refuses to sign for rows of 1e30: stage 0 sent them."""
    routes = Routes()
    attempts = make_attempts(routes)
    told = RequestFailed(1, FailureCode.BAD_INPUT, "hidden states reach 1e+30, the model was calibrated for 467", 0)
    attempts._note_failed(make_route(b"liar", b"honest", b"last"), told)  # noqa: SLF001
    assert routes.failed == [b"liar"]
    assert b"honest" not in attempts._excluded  # noqa: SLF001
