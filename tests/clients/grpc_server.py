"""A gRPC service without generated code: messages are bytes.

usage: grpc_server.py
Writes the port that it listens on, then serves until its input ends.
"""

import sys
import time
from concurrent import futures

import grpc


def unary(request, context):
    metadata = dict(context.invocation_metadata())
    if request == b"fail":
        context.set_trailing_metadata((("x-why", "asked to"),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "asked to fail")
    if request == b"slow":
        time.sleep(30)
    if request == b"forwarded":
        return metadata.get("x-forwarded-proto", "-").encode()
    context.set_trailing_metadata((("x-seen", metadata.get("x-token", "-")),))
    return request[::-1]


def collect(requests, context):
    return str(sum(len(request) for request in requests)).encode()


def count(request, context):
    for n in range(int(request)):
        yield str(n).encode()


def pause(request, context):
    yield b"before"
    time.sleep(float(request))
    yield b"after"


def chat(requests, context):
    for request in requests:
        yield b"re: " + request


kind = grpc.method_handlers_generic_handler(
    "hnp.Test",
    {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Collect": grpc.stream_unary_rpc_method_handler(collect),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Pause": grpc.unary_stream_rpc_method_handler(pause),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
    },
)
server = grpc.server(futures.ThreadPoolExecutor(max_workers=32))
server.add_generic_rpc_handlers((kind,))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
sys.stdin.read()
server.stop(0)
