"""Every kind of call, through HNP to `grpc_server.py`.

usage: grpc_client.py TARGET [CA CERTIFICATE KEY]
Each line of output is `what result`.
"""

import queue
import sys
import threading

import grpc

target, *tls = sys.argv[1:]
if tls:
    ca, certificate, key = (open(name, "rb").read() for name in tls)
    credentials = grpc.ssl_channel_credentials(ca, key, certificate)
    channel = grpc.secure_channel(target, credentials)
else:
    channel = grpc.insecure_channel(target)

unary = channel.unary_unary("/hnp.Test/Unary")
collect = channel.stream_unary("/hnp.Test/Collect")
count = channel.unary_stream("/hnp.Test/Count")
pause = channel.unary_stream("/hnp.Test/Pause")
chat = channel.stream_stream("/hnp.Test/Chat")

answer, call = unary.with_call(b"hello", metadata=(("x-token", "abc"),), timeout=20)
print("unary", answer.decode(), dict(call.trailing_metadata())["x-seen"])

big = bytes(range(256)) * 8192
print("big", unary(big, timeout=60) == big[::-1])

print("collect", collect((bytes(1000) for _ in range(1000)), timeout=60).decode())
print("count", sum(int(n) for n in count(b"1000", timeout=60)))

# Longer than HNP waits for the next request of a connection without one.
print("pause", b" ".join(pause(b"1.5", timeout=60)).decode())

# Each message is sent only when the answer to the one before it has come.
asked = queue.Queue()
answers = chat(iter(asked.get, None), timeout=60)
said = []
for n in range(100):
    asked.put(str(n).encode())
    said.append(next(answers).decode())
asked.put(None)
print("chat", len(said), said[-1], len(list(answers)))

try:
    unary(b"fail", timeout=20)
except grpc.RpcError as error:
    print("fail", error.code().name, error.details(), dict(error.trailing_metadata())["x-why"])

try:
    unary(b"slow", timeout=0.5)
except grpc.RpcError as error:
    print("slow", error.code().name)

call = count.__call__(b"1000000", timeout=60)
next(call)
call.cancel()
try:
    for _ in call:
        pass
except grpc.RpcError as error:
    print("cancel", error.code().name)

# Many at once over the one connection.
failed = []


def many():
    for n in range(50):
        if unary(str(n).encode(), timeout=60) != str(n).encode()[::-1]:
            failed.append(n)


threads = [threading.Thread(target=many) for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("many", 16 * 50, len(failed))
print("scheme", unary(b"forwarded", timeout=20).decode())
