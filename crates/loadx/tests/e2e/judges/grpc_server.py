"""A server of gRPC. Prints its port. The first argument is its name."""

import sys
import threading
import time
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

NAME = sys.argv[1]
cancelled = 0
checks = health.HealthServicer()


def echo(request, context):
    context.set_trailing_metadata((("x-server", NAME),))
    return request


def count(request, context):
    for number in range(int(request)):
        yield str(number).encode()


def total(requests, context):
    return str(sum(len(request) for request in requests)).encode()


def ping_pong(requests, context):
    for request in requests:
        yield request


def fail(request, context):
    context.abort(grpc.StatusCode.INVALID_ARGUMENT, "50 % of é")


def flaky(request, context):
    if NAME == "first":
        context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
    return NAME.encode()


def slow(request, context):
    ended = threading.Event()

    def note():
        global cancelled
        cancelled += 1
        ended.set()

    context.add_callback(note)
    ended.wait(30)
    return b""


def cancels(request, context):
    return str(cancelled).encode()


def set_health(request, context):
    status = health_pb2.HealthCheckResponse.ServingStatus.Value(request.decode())
    checks.set("judge.Judge", status)
    return b""


HANDLERS = {
    "Echo": grpc.unary_unary_rpc_method_handler(echo),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "Total": grpc.stream_unary_rpc_method_handler(total),
    "PingPong": grpc.stream_stream_rpc_method_handler(ping_pong),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Flaky": grpc.unary_unary_rpc_method_handler(flaky),
    "Slow": grpc.unary_unary_rpc_method_handler(slow),
    "Cancels": grpc.unary_unary_rpc_method_handler(cancels),
    "SetHealth": grpc.unary_unary_rpc_method_handler(set_health),
}

server = grpc.server(
    futures.ThreadPoolExecutor(max_workers=32),
    options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
)
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("judge.Judge", HANDLERS),))
health_pb2_grpc.add_HealthServicer_to_server(checks, server)
checks.set("judge.Judge", health_pb2.HealthCheckResponse.SERVING)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
# Ends with the test.
sys.stdin.read()
