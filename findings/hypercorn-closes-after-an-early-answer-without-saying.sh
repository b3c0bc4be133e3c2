#!/usr/bin/env bash
# hypercorn 0.18.0 (HTTP/1.1): when an application answers before the request's body has arrived (no key, no such path),
# hypercorn closes the connection after the answer, but the answer does not say `Connection: close`. A client with a
# pool of connections, which every HTTP library has, takes the connection for reusable, and its next request fails
# with "server disconnected". It shows on busy machines alone, for clients send head and body in two packets, which
# mostly arrive together. Cure: an application takes what is left of the body before it answers, and the server says
# that it closes (RFC 9112, section 9.6).
# Seen with hypercorn 0.18.0, h11 0.16.0, trio 0.31.0 on Python 3.11:
#   answer: 401
#   it says that the connection closes? False
#   it closes? True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "hypercorn==0.18.0" "h11==0.16.0" "trio==0.31.0"
"$folder/venv/bin/python" - <<'PY' | tee "$folder/seen"
import trio
from hypercorn.config import Config
from hypercorn.trio import serve

PORT = 18_473


async def refuse(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def ask():
    stream = await trio.open_tcp_stream("127.0.0.1", PORT)
    await stream.send_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n")
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += await stream.receive_some()
    head = answer.lower()
    print("answer:", head.split()[1].decode())
    print("it says that the connection closes?", b"connection: close" in head)
    with trio.move_on_after(5):
        print("it closes?", await stream.receive_some() == b"")


async def main():
    config, over = Config(), trio.Event()
    config.bind, config.accesslog, config.errorlog = [f"127.0.0.1:{PORT}"], None, None
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: serve(refuse, config, shutdown_trigger=over.wait, task_status=task_status))
        await ask()
        over.set()


trio.run(main)
PY
diff "$folder/seen" - <<'SEEN'
answer: 401
it says that the connection closes? False
it closes? True
SEEN
echo "as stated"
