"""What every Python client does through the proxy: the Rust side knows the digests and compares.

usage: CLIENT.py PROXY HTTPS-ORIGIN HTTP-ORIGIN CA-FILE SEED      (some know `-` for no proxy)
Each line of output is `what digest`.
"""

import hashlib
import ssl
import sys

PROXY, HTTPS, HTTP, CA, SEED = sys.argv[1:6]
UPLOAD = bytes(range(256)) * 4096

DOWNLOADS = {
    "https": f"{HTTPS}/bytes/{SEED}/1000003",
    "http": f"{HTTP}/bytes/{SEED}/1000003",
    "chunked": f"{HTTP}/chunked/{SEED}/1000003",
    "until-close": f"{HTTP}/until-close/{SEED}/1000003",
}
UPLOADS = {"upload-https": f"{HTTPS}/digest", "upload-http": f"{HTTP}/digest"}
EVENTS = f"{HTTP}/events/50"


def tls() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=CA)


def upload_in_pieces():
    """A body whose length the client cannot know: it is sent in chunks."""
    for start in range(0, len(UPLOAD), 10_007):
        yield UPLOAD[start : start + 10_007]


def report(what: str, status: int, body: bytes) -> None:
    if status != 200:
        sys.exit(f"{what}: {status} {body[:500]!r}")
    print(what, hashlib.sha256(body).hexdigest())


def report_upload(what: str, status: int, body: bytes) -> None:
    if status != 200:
        sys.exit(f"{what}: {status} {body[:500]!r}")
    print(what, body.decode())


def report_events(status: int, lines) -> None:
    if status != 200:
        sys.exit(f"events: {status}")
    print("events", sum(1 for line in lines if line.startswith("data:")))
