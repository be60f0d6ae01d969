"""An application for hypercorn: answers with the version, the path and the length of the content, then with the content."""


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    content = b""
    while True:
        event = await receive()
        content += event.get("body", b"")
        if not event.get("more_body"):
            break
    told = f"{scope['http_version']} {scope['method']} {scope['path']} {len(content)}\n".encode()
    headers = [(b"content-type", b"text/plain"), (b"x-scheme", scope["scheme"].encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": told, "more_body": True})
    await send({"type": "http.response.body", "body": content})
