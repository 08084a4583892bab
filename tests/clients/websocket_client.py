"""Many WebSockets at once through the proxy, to a server in this same process, with messages both ways at the same time.

usage: websocket_client.py PROXY SERVER-CERTIFICATE SERVER-KEY CA-FILE SEED SOCKETS MESSAGES
Prints `ok SOCKETS messages-to-server messages-to-client`.
"""

import asyncio
import hashlib
import random
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

PROXY, CERTIFICATE, KEY, CA, SEED = sys.argv[1:6]
SOCKETS, MESSAGES = int(sys.argv[6]), int(sys.argv[7])
FEED = "feed"


def messages(seed: str) -> list[bytes]:
    """From empty to more than a frame with a 16-bit length can hold."""
    source = random.Random(seed)
    sizes = [0, 1, 125, 126, 127, 70_000] + [source.randrange(2_000) for _ in range(MESSAGES)]
    return [source.randbytes(size) for size in sizes]


def digest(parts) -> str:
    return hashlib.sha256(b"|".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


async def converse(socket, sends: list[bytes], expects: list[bytes]) -> None:
    """Sends and receives at once, each side its own stream of messages, and compares what came."""

    async def send() -> None:
        for message in sends:
            await socket.send(message)

    async def receive() -> list[bytes]:
        return [await socket.recv() for _ in expects]

    _, got = await asyncio.gather(send(), receive())
    if digest(got) != digest(expects):
        raise AssertionError("other messages than were sent")


async def server_side(socket) -> None:
    number = socket.request.path.strip("/")
    await converse(socket, messages(f"{SEED} to client {number}"), messages(f"{SEED} to server {number}"))
    await socket.wait_closed()


async def main() -> None:
    certificate = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.load_cert_chain(CERTIFICATE, KEY)
    trust = ssl.create_default_context(cafile=CA)
    async with (
        serve(server_side, "127.0.0.1", 0, compression=None) as plain,
        serve(server_side, "127.0.0.1", 0, ssl=certificate, compression=None) as secure,
    ):
        plain_port, secure_port = (server.sockets[0].getsockname()[1] for server in (plain, secure))

        def open_one(number: int):
            if number % 2:
                return connect(f"wss://localhost:{secure_port}/{number}", ssl=trust, proxy=PROXY, compression=None, open_timeout=60)
            return connect(f"ws://127.0.0.1:{plain_port}/{number}", proxy=PROXY, compression=None, open_timeout=60)

        # All are open before any closes.
        sockets = await asyncio.gather(*(open_one(number) for number in range(SOCKETS)))
        await asyncio.gather(
            *(
                converse(socket, messages(f"{SEED} to server {number}"), messages(f"{SEED} to client {number}"))
                for number, socket in enumerate(sockets)
            )
        )
        await asyncio.gather(*(socket.close() for socket in sockets))
        codes = {socket.close_code for socket in sockets}
        if codes != {1000}:
            raise AssertionError(f"closed with {codes}")
    print("ok", len(sockets), len(sockets) * len(messages("count")))


asyncio.run(asyncio.wait_for(main(), 120))
