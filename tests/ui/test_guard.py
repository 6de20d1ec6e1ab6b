"""The page's server: foreign hosts and uploads are refused, here and with Gradio itself."""

from __future__ import annotations

import asyncio
import http.client
import socket

import pytest

from adaqf_train.cli.ui import Ui
from adaqf_train.ui.app import Studio
from adaqf_train.ui.guard import Guard, options


def answer(guard: Guard, path: str = "/", kind: str = "http", **headers: str) -> int:
    """The status of a request, or its close code; 200 if the application behind the guard answers."""
    sent = []

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {"type": kind, "path": path, "headers": [(k.encode(), v.encode()) for k, v in headers.items()]}
    asyncio.run(guard(scope, None, send))
    return sent[0].get("status", sent[0].get("code"))


async def page(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})


@pytest.mark.parametrize(
    ("listens", "host", "status"),
    [
        ("127.0.0.1", "localhost:7860", 200),
        ("127.0.0.1", "127.0.0.1", 200),
        ("127.0.0.1", "[::1]:7860", 200),
        ("127.0.0.1", "LOCALHOST", 200),
        ("127.0.0.1", "evil.example", 400),
        ("127.0.0.1", "evil.example:7860", 400),
        ("127.0.0.1", "localhost.evil.example", 400),
        ("127.0.0.1", "localhost:7860@evil.example", 400),
        ("127.0.0.1", "localhost:evil", 400),
        ("127.0.0.1", "192.168.0.7", 400),
        ("127.0.0.1", "", 400),
        ("127.0.0.1", "[::1", 200),
        ("127.0.0.1", "ok.example:80", 200),
        ("0.0.0.0", "192.168.0.7:7860", 200),
        ("0.0.0.0", "[fe80::1]:7860", 200),
        ("0.0.0.0", "evil.example", 400),
        ("my.example", "my.example:7860", 200),
        ("my.example", "evil.example", 400),
    ],
)
def test_guard_answers_under_its_own_names_only(listens, host, status, monkeypatch):
    monkeypatch.delenv("SPACE_ID", raising=False)
    guard = Guard(page, **options(listens, ["ok.example"]))
    assert answer(guard, host=host) == status
    assert answer(guard, kind="websocket", host=host) == (200 if status == 200 else 1008)


def test_guard_refuses_uploads_and_requests_without_a_host(monkeypatch):
    guard = Guard(page)
    for path in ("/upload", "/gradio_api/upload", "/gradio_api/Upload/"):
        assert answer(guard, path, host="localhost") == 403
    assert answer(guard) == 400
    monkeypatch.setenv("SPACE_ID", "me/space")
    assert answer(Guard(page, **options("0.0.0.0")), host="me-space.hf.space") == 200


def test_gradio_serves_the_page_behind_the_guard(tmp_path, monkeypatch):
    gradio = pytest.importorskip("gradio", reason="needs the extra ui")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launch, served = gradio.Blocks.launch, []

    def in_background(self, **given: object) -> None:
        served.append(self)
        launch(self, **given, prevent_thread_lock=True, quiet=True)

    monkeypatch.setattr(gradio.Blocks, "launch", in_background)
    monkeypatch.setattr(Ui, "studio", lambda self, folder: Studio({"none": None}, {}, tmp_path))
    Ui(port=port, open=False)()

    def ask(method: str, path: str, host: str, body: bytes = b"", kind: str = "application/json") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request(method, path, body, {"Host": host, "Content-Type": kind})
        reply = connection.getresponse()
        return reply.status, reply.read()

    try:
        assert ask("GET", "/", f"127.0.0.1:{port}")[0] == 200
        assert ask("GET", "/", "evil.example")[0] == 400
        assert ask("GET", "/config", "evil.example:80")[0] == 400
        form = (
            b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n' + b"a" * 99 + b"\r\n--x--\r\n"
        )
        kind = "multipart/form-data; boundary=x"
        assert ask("POST", "/gradio_api/upload", f"127.0.0.1:{port}", form, kind)[0] == 403
        for body in (b"", b"{", b"[]", b'{"data": 3}', b'{"data": [{"a": 1}, "x", [], 7]}', b"[" * 100_000):
            status, said = ask("POST", "/gradio_api/call/generate", f"127.0.0.1:{port}", body)
            assert status < 600
            assert b"Traceback" not in said
    finally:
        served[0].close()
