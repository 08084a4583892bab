"""HTTP/2 to HNP as a reverse proxy, with httpx.

usage: httpx2_client.py URL CA-FILE SEED
Each line of output is `what result`.
"""

import hashlib
import ssl
import sys

import httpx

url, ca, seed = sys.argv[1:4]
upload = bytes(range(256)) * 4096


def in_pieces():
    for start in range(0, len(upload), 10_007):
        yield upload[start : start + 10_007]


context = ssl.create_default_context(cafile=ca)
with httpx.Client(
    http1=False, http2=True, verify=context, trust_env=False, timeout=60
) as client:
    for what in ["bytes", "chunked", "until-close"]:
        answer = client.get(f"{url}/{what}/{seed}/1000003")
        assert answer.http_version == "HTTP/2", answer.http_version
        print(what, answer.status_code, hashlib.sha256(answer.content).hexdigest())
    answer = client.post(f"{url}/digest", content=upload)
    print("upload", answer.status_code, answer.text)
    answer = client.post(f"{url}/digest", content=in_pieces())
    print("upload-pieces", answer.status_code, answer.text)
    with client.stream("GET", f"{url}/events/50") as answer:
        events = sum(1 for line in answer.iter_lines() if line.startswith("data:"))
    print("events", answer.status_code, events)
