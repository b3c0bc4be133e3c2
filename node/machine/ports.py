"""Whether a TCP address can be listened at, asked before anything starts that would only fail there later."""

from __future__ import annotations

import errno
import socket

from proto_specs.errors import MyelinError


class AddressUnusable(MyelinError):
    """Nothing of ours can listen at this address. The text says why and which option helps."""


def check_listenable(host: str, port: int, host_option: str, port_option: str) -> None:
    """Raises AddressUnusable unless `host` is an address of this machine with the TCP port free. Port 0 is any."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise AddressUnusable(f"{host_option} {host} is not an address of this machine: {error}") from error
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind(address)
                tried.listen(1)
            except OSError as error:
                raise AddressUnusable(_explain(error, host, port, host_option, port_option)) from error


def _explain(error: OSError, host: str, port: int, host_option: str, port_option: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use: end what listens there, or name another one with {port_option}"
    if error.errno == errno.EACCES:
        return f"port {port} of {host} may not be used by this user: name one above 1023 with {port_option}"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"this machine has no address {host}: name one that it has with {host_option}"
    return f"nothing can listen at port {port} of {host}: {error.strerror}"
