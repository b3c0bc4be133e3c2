"""The process that holds a validator's key and history: serves one node at a time over a Unix socket."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
from collections.abc import Iterator
from pathlib import Path

from node.signer.remote.messages import (
    REASON_BYTES_MAX,
    Answer,
    Ask,
    AskProof,
    AskSignature,
    AskSigned,
    AskVotes,
    Found,
    Hello,
    Refused,
    ServerProof,
    Signed,
    Unfit,
    Votes,
    Welcome,
    receive_ask,
    send,
)
from node.signer.signer import Signer, SignerError, SignRefused, VoteSlot
from proto_specs.errors import DecodeError

logger = logging.getLogger("myelin.signer")

FRAME_S_MAX = 0.25
"""Time in which a request must be complete once it has begun."""


@contextlib.contextmanager
def listen(path: Path) -> Iterator[socket.socket]:
    """A socket that only this user may connect to. Open the signer first: its lock keeps a second process out."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        old_mask = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(old_mask)
        listener.listen(4)
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def serve(signer: Signer, listener: socket.socket, stop: socket.socket) -> None:
    """Serve until `stop` is readable. Raises OSError when the disk fails: nothing more may be signed then."""
    logger.info("serving key %s at %s", signer.public_key.hex()[:16], listener.getsockname())
    client: socket.socket | None = None
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        selector.register(stop, selectors.EVENT_READ)
        try:
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if stop in ready:
                    return
                if client is not None and client in ready and not _serve_one(signer, client):
                    selector.unregister(client)
                    client.close()
                    client = None
                    logger.info("the node has gone")
                if listener in ready:
                    client = _admit(signer, listener, client, selector)
        finally:
            if client is not None:
                client.close()


def _admit(
    signer: Signer, listener: socket.socket, client: socket.socket | None, selector: selectors.BaseSelector
) -> socket.socket | None:
    """Admit a client, unless another is connected or it does not fit; returns the client to serve afterwards."""
    stream, _ = listener.accept()
    stream.settimeout(FRAME_S_MAX)
    try:
        if client is not None:
            raise SignerError("another node is connected: two nodes with one key would be slashed")
        hello = receive_ask(stream, FRAME_S_MAX)
        if not isinstance(hello, Hello):
            raise SignerError("a client begins with the chain it is on")
        if hello.genesis != signer.genesis:
            raise SignerError(f"this signer is for another chain ({signer.genesis.hex()[:16]}…)")
        send(stream, Welcome(signer.public_key), Answer)
    except (SignerError, DecodeError, OSError) as error:
        logger.warning("a client was turned away: %s", error)
        with contextlib.suppress(OSError):
            send(stream, Unfit(str(error)[: REASON_BYTES_MAX // 4]), Answer)
        stream.close()
        return client
    selector.register(stream, selectors.EVENT_READ)
    logger.info("a node is connected")
    return stream


def _serve_one(signer: Signer, stream: socket.socket) -> bool:
    """Answer a request. False when the client must be dropped."""
    try:
        ask = receive_ask(stream, FRAME_S_MAX)
    except (DecodeError, OSError) as error:
        logger.warning("the node said what is no request: %s", error)
        return False
    if ask is None:
        return False
    answer = _answer(signer, ask)
    try:
        send(stream, answer, Answer)
    except OSError as error:
        logger.warning("an answer could not be sent: %s", error)
        return False
    return not isinstance(answer, Unfit)


def _answer(signer: Signer, ask: Ask) -> Answer:
    try:
        match ask:
            case AskSignature():
                if ask.slot not in tuple(VoteSlot):
                    return Unfit(f"there is no slot {ask.slot}")
                return Signed(signer.sign(ask.height, ask.round, VoteSlot(ask.slot), ask.payload))
            case AskVotes():
                return Votes(tuple(signer.list_votes(ask.height)))
            case AskSigned():
                return Found(signer.has_signed(ask.vote))
            case AskProof():
                return ServerProof(signer.prove_beacon(ask.previous, ask.height))
            case Hello():
                return Unfit("a client greets once")
    except SignRefused as error:
        return Refused(str(error)[: REASON_BYTES_MAX // 4])
