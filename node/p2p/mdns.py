"""Peers of one chain on the local network, by multicast DNS as libp2p's specification has it (zeroconf does the DNS).

Every record names addresses under the service of the chain, `_p2p-GENESIS._udp.local.`. Found addresses go to the
caller, which decides what to dial. Section 24 of docs/upstream.md says why this is not libp2p's own.
"""

from __future__ import annotations

import ipaddress
import logging
import secrets
from collections.abc import Callable, Sequence

import ifaddr
import trio
from zeroconf import ServiceBrowser, ServiceInfo, ServiceStateChange, Zeroconf

logger = logging.getLogger("myelin.network")

ADDRESSES_MAX = 8
WAITING_MAX = 64
RESOLVE_MS = 3_000
PORT_UNUSED = 4001
"""The SRV record needs a port; the addresses that count are in the TXT record."""


def compute_service(genesis: bytes) -> str:
    """The DNS service of one chain. Nodes of other chains do not see it."""
    return f"_p2p-{genesis.hex()[:8]}._udp.local."


async def run_mdns(addresses: Sequence[str], genesis: bytes, learn: Callable[[list[str]], None]) -> None:
    """Announce our addresses on the local network, and pass other nodes' addresses to `learn`, until cancelled.

    Without multicast it logs that and returns.
    """
    service = compute_service(genesis)
    name = f"{secrets.token_hex(16)}.{service}"
    token = trio.lowlevel.current_trio_token()
    send, receive = trio.open_memory_channel[str](WAITING_MAX)

    def note(found: str) -> None:
        try:
            send.send_nowait(found)
        except (trio.WouldBlock, trio.BrokenResourceError):
            logger.debug("too many peers on the local network at once: one is passed over")

    def on_change(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        """Called in zeroconf's thread."""
        if state_change is not ServiceStateChange.Removed:
            token.run_sync_soon(note, name)

    try:
        zeroconf = await trio.to_thread.run_sync(Zeroconf)
    except OSError as error:
        logger.warning("no multicast here, so no peers are found on the local network: %s", error)
        return
    try:
        info = _describe(service, name, expand(addresses))
        await trio.to_thread.run_sync(lambda: zeroconf.register_service(info, cooperating_responders=True))
        browser = await trio.to_thread.run_sync(lambda: ServiceBrowser(zeroconf, service, handlers=[on_change]))
        async for found in receive:
            if found != name:
                learn(await trio.to_thread.run_sync(_resolve, zeroconf, service, found))
        await trio.to_thread.run_sync(browser.cancel)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(zeroconf.close)


def _describe(service: str, name: str, addresses: Sequence[str]) -> ServiceInfo:
    texts = {"dnsaddr" + (str(number) if number else ""): one for number, one in enumerate(addresses[:ADDRESSES_MAX])}
    host = f"{name.split('.')[0]}.local."
    return ServiceInfo(service, name, port=PORT_UNUSED, properties=texts, server=host, parsed_addresses=["127.0.0.1"])


def _resolve(zeroconf: Zeroconf, service: str, name: str) -> list[str]:
    info = ServiceInfo(service, name)
    if not info.request(zeroconf, RESOLVE_MS):
        return []
    return decode_texts(info.properties)


def decode_texts(texts: dict[bytes, bytes | None]) -> list[str]:
    """The addresses in a TXT record. The code that parses them rejects invalid ones."""
    found = [value for key, value in texts.items() if key.startswith(b"dnsaddr") and value]
    return [value.decode("utf-8", "replace") for value in found[:ADDRESSES_MAX]]


def expand(addresses: Sequence[str]) -> list[str]:
    """Replaces `0.0.0.0` and `::` by every address of this machine."""
    expanded = []
    for address in addresses:
        parts = address.split("/")
        ip = ipaddress.ip_address(parts[2])
        if not ip.is_unspecified:
            expanded.append(address)
            continue
        for other in _list_own_ips(ip.version):
            expanded.append("/".join([*parts[:2], other, *parts[3:]]))
    return expanded


def _list_own_ips(version: int) -> list[str]:
    own = [one for adapter in ifaddr.get_adapters() for one in adapter.ips]
    if version == 4:
        return [one.ip for one in own if isinstance(one.ip, str)]
    return [one.ip[0] for one in own if isinstance(one.ip, tuple) and not ipaddress.ip_address(one.ip[0]).is_link_local]
