"""Requests with client certificates, by a library of the caller's choice.

usage: mtls_client.py LIBRARY URL CA-FILE CERTIFICATE... [--proxy PROXY PROXY-CA-FILE TARGET-CERTIFICATE]
LIBRARY is ssl, urllib3, requests, httpx or websockets. Each CERTIFICATE is the path of a `.crt` with a `.key` beside it, or `-` for
none. With a proxy it is the proxy that they are shown to, and TARGET-CERTIFICATE to the target.
Prints for each a line: `STATUS BODY`, or `refused WHY`.
"""

import asyncio
import socket
import ssl
import sys
from urllib.parse import urlsplit

TIMEOUT = 60
ARGUMENTS = sys.argv[1:]
PROXY = None
if "--proxy" in ARGUMENTS:
    at = ARGUMENTS.index("--proxy")
    PROXY, PROXY_CA, TARGET_CERTIFICATE = ARGUMENTS[at + 1 :]
    ARGUMENTS = ARGUMENTS[:at]
LIBRARY, URL, CA, *CERTIFICATES = ARGUMENTS


def pair(certificate: str) -> tuple[str, str]:
    return certificate, certificate.removesuffix(".crt") + ".key"


def context(ca: str, certificate: str) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=ca)
    if certificate != "-":
        made.load_cert_chain(*pair(certificate))
    return made


def contexts(certificate: str) -> tuple[ssl.SSLContext, ssl.SSLContext | None]:
    """For the target, and for the proxy."""
    if PROXY:
        return context(CA, TARGET_CERTIFICATE), context(PROXY_CA, certificate)
    return context(CA, certificate), None


def by_ssl(certificate: str):
    url = urlsplit(URL)
    tls, _ = contexts(certificate)
    with socket.create_connection((url.hostname, url.port), timeout=TIMEOUT) as plain:
        with tls.wrap_socket(plain, server_hostname=url.hostname) as stream:
            stream.sendall(f"GET {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while part := stream.recv(65536):
                answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


def by_urllib3(certificate: str):
    import urllib3

    target, proxy = contexts(certificate)
    if PROXY:
        pool = urllib3.ProxyManager(PROXY, ssl_context=target, proxy_ssl_context=proxy)
    else:
        pool = urllib3.PoolManager(ssl_context=target)
    answer = pool.request("GET", URL, retries=False, timeout=TIMEOUT)
    return answer.status, answer.data.decode()


def by_requests(certificate: str):
    import requests

    with requests.Session() as session:
        session.trust_env = False
        session.verify = CA
        if certificate != "-":
            session.cert = pair(certificate)
        answer = session.get(URL, timeout=TIMEOUT)
    return answer.status_code, answer.text


def by_httpx(certificate: str):
    import httpx

    target, proxy = contexts(certificate)
    by = httpx.Proxy(PROXY, ssl_context=proxy) if PROXY else None
    with httpx.Client(verify=target, proxy=by, trust_env=False, timeout=TIMEOUT) as client:
        answer = client.get(URL)
    return answer.status_code, answer.text


def by_websockets(certificate: str):
    from websockets.asyncio.client import connect

    async def converse():
        target, proxy = contexts(certificate)
        options = {"proxy": PROXY, "proxy_ssl": proxy} if PROXY else {"proxy": None}
        async with connect(URL.replace("https:", "wss:"), ssl=target, open_timeout=TIMEOUT, **options) as stream:
            for number in range(50):
                message = f"message {number}" * (number + 1)
                await stream.send(message)
                assert await stream.recv() == message
        return stream.close_code, "echoed"

    return asyncio.run(converse())


for shown in CERTIFICATES:
    try:
        status, body = globals()[f"by_{LIBRARY}"](shown)
    except Exception as error:
        # What a library has wrapped is what says why.
        said = []
        while error:
            said.append(f"{type(error).__name__}: {error}")
            error = error.__cause__ or error.__context__
        print("refused", " ".join(" | ".join(said).split()))
    else:
        print(status, " ".join(body.split()))
