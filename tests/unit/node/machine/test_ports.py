"""An address that cannot be listened at is refused at once, with the option that helps."""

from __future__ import annotations

import socket

import pytest

from node.machine.ports import AddressUnusable, check_listenable


def check(host: str, port: int) -> None:
    check_listenable(host, port, "--rpc-host", "--rpc-port")


def test_a_free_port_is_fine_and_stays_free() -> None:
    check("127.0.0.1", 0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    check("127.0.0.1", port)
    check("127.0.0.1", port)


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressUnusable, match=f"port {port} of 127.0.0.1 is in use: .*--rpc-port"):
            check("127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.name.invalid", "not an address", "x" * 300])
def test_an_address_of_another_machine(host: str) -> None:
    with pytest.raises(AddressUnusable, match="--rpc-host"):
        check(host, 9_944)
