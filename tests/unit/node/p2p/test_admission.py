"""Admission of inbound connections: bounds hold, idle ones yield to new ones, established ones are never evicted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node.p2p.admission import AdmissionLimits, ConnectionAdmission

LIMITS = AdmissionLimits(
    connections_per_ip_max=4, pending_per_ip_max=2, pending_max=5, accepts_burst=1000, accepts_per_s=1.0
)


def test_the_oldest_pending_connection_of_an_ip_yields() -> None:
    admission = ConnectionAdmission[int](LIMITS)
    assert admission.admit(1, "a", 0.0) == (True, [])
    assert admission.admit(2, "a", 0.0) == (True, [])
    assert admission.admit(3, "a", 0.0) == (True, [1])
    assert admission.admit(4, "b", 0.0) == (True, [])


def test_established_connections_are_not_evicted_but_counted() -> None:
    admission = ConnectionAdmission[int](LIMITS)
    for n in range(4):
        assert admission.admit(n, "a", 0.0) == (True, [])
        admission.establish(n)
    assert admission.admit(9, "a", 0.0) == (False, [])
    assert admission.admit(10, "b", 0.0) == (True, [])
    admission.release(0)
    assert admission.admit(11, "a", 0.0) == (True, [])


def test_a_pending_connection_yields_to_a_new_one_at_the_limit_of_its_ip() -> None:
    admission = ConnectionAdmission[int](LIMITS)
    for n in range(3):
        admission.admit(n, "a", 0.0)
        admission.establish(n)
    assert admission.admit(3, "a", 0.0) == (True, [])
    assert admission.admit(4, "a", 0.0) == (True, [3])


def test_pending_connections_are_bounded_over_all_ips() -> None:
    admission = ConnectionAdmission[int](LIMITS)
    for n in range(5):
        assert admission.admit(n, f"ip{n}", 0.0) == (True, [])
    assert admission.admit(5, "ip5", 0.0) == (True, [0])
    assert admission.admit(6, "ip6", 0.0) == (True, [1]), "the next in age: the evicted is forgotten"


def test_accepts_are_rate_limited_per_ip_and_recover() -> None:
    admission = ConnectionAdmission[int](AdmissionLimits(accepts_burst=3, accepts_per_s=2.0))
    for n in range(3):
        assert admission.admit(n, "a", 10.0)[0]
        admission.release(n)
    assert not admission.admit(3, "a", 10.0)[0]
    assert admission.admit(4, "b", 10.0)[0]
    assert admission.admit(5, "a", 10.5)[0]
    assert not admission.admit(6, "a", 10.5)[0]


def test_remembered_ips_are_bounded() -> None:
    admission = ConnectionAdmission[int](AdmissionLimits(tracked_ips_max=10, accepts_burst=1, accepts_per_s=1.0))
    for n in range(10):
        assert admission.admit(n, f"ip{n}", 0.0)[0]
        admission.release(n)
    assert not any(admission.admit(10, f"ip{n}", 0.0)[0] for n in range(10)), "remembered"
    assert admission.admit(10, "ip10", 0.0)[0]
    admission.release(10)
    assert admission.admit(0, "ip0", 0.0)[0], "forgotten, as the address that came least recently"
    admission.release(0)
    assert not admission._open_per_ip  # noqa: SLF001


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["admit", "establish", "release"]), st.integers(0, 20), st.sampled_from("abc")),
        max_size=200,
    )
)
def test_the_books_always_balance(steps: list[tuple[str, int, str]]) -> None:
    admission = ConnectionAdmission[int](LIMITS)
    ip_of: dict[int, str] = {}
    established: set[int] = set()
    for step, connection, ip in steps:
        if step == "admit" and connection not in ip_of:
            admitted, evicted = admission.admit(connection, ip, 0.0)
            assert not established.intersection(evicted)
            assert len(set(evicted)) == len(evicted)
            for other in evicted:
                admission.release(other)
                del ip_of[other]
            if admitted:
                ip_of[connection] = ip
        elif step == "establish" and connection in ip_of:
            admission.establish(connection)
            established.add(connection)
        elif step == "release":
            admission.release(connection)
            ip_of.pop(connection, None)
            established.discard(connection)
        for each in "abc":
            assert list(ip_of.values()).count(each) <= LIMITS.connections_per_ip_max
        assert len(set(ip_of) - established) <= LIMITS.pending_max
