"""usage: capture_client.py CA-FILE SEED ORIGIN...   Standard library, no setting of any proxy.

For each origin prints `get DIGEST` of what it downloads and `post DIGEST` of what it uploads, as the origin saw it."""

import hashlib
import ssl
import sys
import urllib.request

ca, seed, *origins = sys.argv[1:]
trust = ssl.create_default_context(cafile=ca)
upload = bytes(i & 255 for i in range(1 << 20))

for origin in origins:
    with urllib.request.urlopen(f"{origin}/bytes/{seed}/1000003", context=trust, timeout=60) as answer:
        print("get", hashlib.sha256(answer.read()).hexdigest())
    with urllib.request.urlopen(f"{origin}/digest", data=upload, context=trust, timeout=60) as answer:
        print("post", answer.read().decode().strip())
