import asyncio

import aiohttp

from common import *


async def pieces():
    for piece in upload_in_pieces():
        yield piece


async def main() -> None:
    timeout = aiohttp.ClientTimeout(total=60)
    connector = aiohttp.TCPConnector(ssl=tls())
    async with aiohttp.ClientSession(connector=connector, proxy=PROXY, timeout=timeout, trust_env=False) as session:
        for what, url in DOWNLOADS.items():
            async with session.get(url) as answer:
                report(what, answer.status, await answer.read())
        for what, url in UPLOADS.items():
            async with session.post(url, data=UPLOAD) as answer:
                report_upload(what, answer.status, await answer.read())
            async with session.post(url, data=pieces()) as answer:
                report_upload(what + "-chunked", answer.status, await answer.read())
        async with session.get(EVENTS) as answer:
            report_events(answer.status, [line.decode() async for line in answer.content])


asyncio.run(main())
