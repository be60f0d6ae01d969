"""A client over the library h2: sends uploads on many streams of one connection, and checks the echoes. Arguments: host and port."""

import socket
import sys

import h2.config
import h2.connection
import h2.events

COUNT, LENGTH = 50, 200_000
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30)
connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
connection.initiate_connection()
left, got, ended = {}, {}, set()
for number in range(COUNT):
    stream = connection.get_next_available_stream_id()
    fields = [(":method", "POST"), (":scheme", "http"), (":authority", "x.test"), (":path", f"/{number}")]
    connection.send_headers(stream, fields)
    left[stream], got[stream] = bytes([number]) * LENGTH, b""


def send():
    for stream, rest in list(left.items()):
        while rest:
            count = min(len(rest), connection.local_flow_control_window(stream), connection.max_outbound_frame_size)
            if count <= 0:
                break
            connection.send_data(stream, rest[:count])
            rest = rest[count:]
        left[stream] = rest
        if not rest:
            connection.end_stream(stream)
            del left[stream]
    sock.sendall(connection.data_to_send())


send()
while len(ended) < COUNT:
    received = sock.recv(65536)
    assert received, "the connection ended"
    for event in connection.receive_data(received):
        if isinstance(event, h2.events.DataReceived):
            got[event.stream_id] += event.data
            connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            ended.add(event.stream_id)
        elif isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated)):
            raise AssertionError(event)
    send()
for number, stream in enumerate(sorted(got)):
    head, _, content = got[stream].partition(b"\n")
    assert head.endswith(f"POST /{number} {LENGTH}".encode()), head
    assert content == bytes([number]) * LENGTH
print("done")
