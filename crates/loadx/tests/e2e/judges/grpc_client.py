"""A client of gRPC that judges the LoadX at the address of the first argument. Prints a line for each check."""

import queue
import sys
import time

import grpc

OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
channel = grpc.insecure_channel(sys.argv[1], options=OPTIONS)


def unary(method, request, service="judge.Judge", **options):
    return channel.unary_unary(f"/{service}/{method}")(request, **{"timeout": 60, **options})


def status_of(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""


def check(name, is_right, found=None):
    assert is_right, f"{name}: {found}"
    print(name, flush=True)


def waits_for(name, probe):
    deadline = time.monotonic() + 30
    while not probe():
        assert time.monotonic() < deadline, name
        time.sleep(0.02)
    print(name, flush=True)


response, call = channel.unary_unary("/judge.Judge/Echo").with_call(b"hello", timeout=60)
trailers = dict(call.trailing_metadata())
check("unary", response == b"hello" and trailers["x-server"] in ("first", "second"), (response, trailers))

large = bytes(range(256)) * (64 * 1024 * 4)
check("messages of 64 MiB", unary("Echo", large) == large)
check("an empty message", unary("Echo", b"") == b"")

numbers = list(channel.unary_stream("/judge.Judge/Count")(b"1000", timeout=60))
check("a stream of the server", numbers == [str(number).encode() for number in range(1000)])

total = channel.stream_unary("/judge.Judge/Total")((b"x" * 1000 for _ in range(1000)), timeout=60)
check("a stream of the client", total == b"1000000", total)

requests = queue.SimpleQueue()
responses = channel.stream_stream("/judge.Judge/PingPong")(iter(requests.get, None), timeout=60)
for number in range(100):
    # The next message goes out only after the answer to the former one: nothing may wait in a buffer.
    requests.put(str(number).encode())
    assert next(responses) == str(number).encode()
requests.put(None)
check("streams in both directions", list(responses) == [])

found = status_of(lambda: unary("Fail", b""))
check("a status with its message", found == (grpc.StatusCode.INVALID_ARGUMENT, "50 % of é"), found)
found = status_of(lambda: unary("Nothing", b""))
check("a method that the server lacks", found[0] == grpc.StatusCode.UNIMPLEMENTED, found)

before = int(unary("Cancels", b""))
found = status_of(lambda: unary("Slow", b"", timeout=0.3))
check("a deadline", found[0] == grpc.StatusCode.DEADLINE_EXCEEDED, found)
waits_for("a deadline reaches the server", lambda: sum(int(unary("Cancels", b"")) for _ in range(2)) > before)
call = channel.unary_unary("/judge.Judge/Slow").future(b"", timeout=60)
time.sleep(0.2)
call.cancel()
waits_for("a cancel reaches the server", lambda: max(int(unary("Cancels", b"")) for _ in range(4)) >= 1)

found = {unary("Flaky", b"") for _ in range(20)}
check("a status that LoadX retries", found == {b"second"}, found)

found = status_of(lambda: unary("Echo", b"", service="dead.Dead"))
check("a cluster without a living backend", found[0] == grpc.StatusCode.UNAVAILABLE and found[1], found)
found = status_of(lambda: unary("Echo", b"", service="nowhere.Nowhere"))
check("a service without a route", found[0] == grpc.StatusCode.UNIMPLEMENTED and found[1], found)

unary("SetHealth", b"NOT_SERVING")
waits_for("an unhealthy server gets no calls", lambda: len({
    dict(channel.unary_unary("/judge.Judge/Echo").with_call(b"", timeout=60)[1].trailing_metadata())["x-server"]
    for _ in range(6)
}) == 1)
print("done", flush=True)
