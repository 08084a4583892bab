"""A tunnel by CONNECT over HTTP/2: sends a megabyte to an echo, ends its half, and compares.

usage: h2_tunnel_client.py PORT TARGET
"""

import socket
import sys

import h2.config
import h2.connection
import h2.events

port, target = sys.argv[1:3]
payload = bytes(range(250)) * 4000
wire = socket.create_connection(("127.0.0.1", int(port)), timeout=30)
connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
connection.initiate_connection()
stream = connection.get_next_available_stream_id()
connection.send_headers(stream, [(":method", "CONNECT"), (":authority", target)])
wire.sendall(connection.data_to_send())
status, back, sent, open_ = None, b"", 0, True
while open_:
    for event in connection.receive_data(wire.recv(65536)):
        if isinstance(event, h2.events.ResponseReceived):
            status = dict(event.headers)[b":status"].decode()
        elif isinstance(event, h2.events.DataReceived):
            back += event.data
            connection.acknowledge_received_data(event.flow_controlled_length, stream)
        elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
            open_ = False
    while status and sent < len(payload):
        room = min(
            connection.local_flow_control_window(stream),
            connection.max_outbound_frame_size,
            len(payload) - sent,
        )
        if room == 0:
            break
        connection.send_data(stream, payload[sent : sent + room])
        sent += room
        if sent == len(payload):
            connection.end_stream(stream)
    wire.sendall(connection.data_to_send())
print(status, len(back), back == payload)
