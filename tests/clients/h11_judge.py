"""What h11 makes of HTTP/1.1 messages: one JSON object a line on standard input, one verdict a line on standard output.

Input: {"bytes": base64, "answers": null for a request, else the method of the request that this response answers}.
Output: {"refused": why} or {"incomplete": true} or {"content": base64, "trailers": [[name, base64]…], "rest": base64}.
A response is all that its connection carries; a request may be followed by more.
"""

import base64
import json
import sys

import h11

LIMIT = 1 << 20


def encoded(data):
    return base64.b64encode(bytes(data)).decode()


def judge(data, answers):
    if answers is None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=LIMIT)
    else:
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=LIMIT)
        connection.send(h11.Request(method=answers, target="/", headers=[("Host", "a.test")]))
        connection.send(h11.EndOfMessage())
    content = bytearray()
    try:
        if data:
            connection.receive_data(data)
        ended = False
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                if answers is None or ended:
                    return {"incomplete": True}
                connection.receive_data(b"")
                ended = True
            elif isinstance(event, h11.Data):
                content += event.data
            elif isinstance(event, h11.EndOfMessage):
                # What was received to the end of the connection belongs to no later message.
                rest = connection.trailing_data[0]
                trailers = [[name.decode(), encoded(value)] for name, value in event.headers]
                return {"content": encoded(content), "trailers": trailers, "rest": encoded(rest)}
            elif event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                return {"incomplete": True} if answers is None else {"refused": repr(event)}
    except h11.RemoteProtocolError as error:
        return {"refused": str(error)}


for line in sys.stdin:
    case = json.loads(line)
    print(json.dumps(judge(base64.b64decode(case["bytes"]), case["answers"])), flush=False)
