"""What Python clients do with a web server that a reverse proxy stands in front of: they know nothing of the proxy.

usage: reverse_client.py LIBRARY SERVER SEED
Each line of output is `what digest`.
"""

import sys

LIBRARY, SERVER, SEED = sys.argv[1:4]
# What `common` is told: no proxy, no TLS.
sys.argv[1:] = ["", "", SERVER, "", SEED]

from common import DOWNLOADS, EVENTS, UPLOAD, UPLOADS, report, report_events, report_upload, upload_in_pieces

downloads = {what: url for what, url in DOWNLOADS.items() if what != "https"}
uploads = {what: url for what, url in UPLOADS.items() if what != "upload-https"}

if LIBRARY == "requests":
    import requests

    with requests.Session() as session:
        session.trust_env = False
        for what, url in downloads.items():
            answer = session.get(url, timeout=60)
            report(what, answer.status_code, answer.content)
        for what, url in uploads.items():
            answer = session.post(url, data=UPLOAD, timeout=60)
            report_upload(what, answer.status_code, answer.content)
            answer = session.post(url, data=upload_in_pieces(), timeout=60)
            report_upload(what + "-chunked", answer.status_code, answer.content)
        with session.get(EVENTS, stream=True, timeout=60) as answer:
            report_events(answer.status_code, answer.iter_lines(decode_unicode=True))
elif LIBRARY == "httpx":
    import httpx

    with httpx.Client(trust_env=False, timeout=60) as client:
        for what, url in downloads.items():
            answer = client.get(url)
            report(what, answer.status_code, answer.content)
        for what, url in uploads.items():
            answer = client.post(url, content=UPLOAD)
            report_upload(what, answer.status_code, answer.content)
            answer = client.post(url, content=upload_in_pieces())
            report_upload(what + "-chunked", answer.status_code, answer.content)
        with client.stream("GET", EVENTS) as answer:
            report_events(answer.status_code, answer.iter_lines())
elif LIBRARY == "websockets":
    import asyncio
    import random

    from websockets.asyncio.client import connect

    async def converse(number):
        source = random.Random(f"{SEED} {number}")
        sizes = [0, 1, 125, 126, 127, 70_000] + [source.randrange(2_000) for _ in range(20)]
        messages = [source.randbytes(size) for size in sizes]
        url = SERVER.replace("http://", "ws://") + "/websocket"
        async with connect(url, proxy=None, compression=None, open_timeout=60) as socket:

            async def send():
                for message in messages:
                    await socket.send(message)

            async def receive():
                return [await socket.recv() for _ in messages]

            _, got = await asyncio.gather(send(), receive())
            if got != messages:
                sys.exit("other messages came back than were sent")

    async def main():
        await asyncio.gather(*(converse(number) for number in range(50)))
        print("websockets", 50)

    asyncio.run(asyncio.wait_for(main(), 120))
else:
    sys.exit(f"no such library: {LIBRARY}")
