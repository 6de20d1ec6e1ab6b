"""A Hugging Face Hub in memory: the endpoints that downloading and uploading a model need, over real HTTP."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest


class Repository:
    """One version of files; every commit replaces it by the next."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.commits = 0

    @property
    def sha(self) -> str:
        return hashlib.sha1(f"{id(self)}-{self.commits}".encode()).hexdigest()

    def entry(self, path: str) -> dict[str, object]:
        content = self.files[path]
        git_name = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        entry = {"type": "file", "path": path, "size": len(content), "oid": git_name}
        if path.endswith(".safetensors"):
            digest = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 130}
        return entry


class Hub:
    """What the server knows, and the faults a test asks of it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.repositories: dict[str, Repository] = {}
        self.uploads: dict[str, bytes] = {}
        self.requests: list[str] = []  # "GET /owner/name/resolve/… bytes=100-"
        self.break_after: int | None = None  # bytes of the next safetensors after which the connection is cut
        self.flip_byte = False  # damages the safetensors it sends


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path} {self.headers.get('Range', '')}".strip())
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        for pattern, action in self._ROUTES:
            if found := re.fullmatch(pattern, f"{self.command} {path}"):
                return action(self, body, **found.groupdict())
        return self._fail(404, "EntryNotFound", f"no endpoint {self.command} {path}")

    def _send(self, content: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        payload = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(payload)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(payload)

    def _fail(self, status: int, code: str, message: str) -> None:
        self._send({"error": message}, status, {"X-Error-Code": code, "X-Error-Message": message})

    def _repository(self, repo: str) -> Repository | None:
        found = self.hub.repositories.get(repo)
        if found is None:
            self._fail(404, "RepoNotFound", f"no repository {repo}")
        return found

    def _info(self, _: bytes, repo: str) -> None:
        if repository := self._repository(repo):
            siblings = [{"rfilename": name} for name in sorted(repository.files)]
            self._send({"_id": "0", "id": repo, "sha": repository.sha, "private": False, "siblings": siblings})

    def _tree(self, _: bytes, repo: str) -> None:
        if repository := self._repository(repo):
            self._send([repository.entry(path) for path in sorted(repository.files)])

    def _file(self, _: bytes, repo: str, path: str) -> None:
        repository = self._repository(repo)
        if repository is None:
            return
        commit = {"X-Repo-Commit": repository.sha}
        if path not in repository.files:
            self._send(
                {"error": "Entry not found"}, 404, commit | {"X-Error-Code": "EntryNotFound", "X-Error-Message": path}
            )
            return
        entry, content = repository.entry(path), repository.files[path]
        large = "lfs" in entry
        etag = entry["lfs"]["oid"] if large else entry["oid"]
        headers = commit | {"ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        if large and self.hub.flip_byte:
            content = content[:-1] + bytes([content[-1] ^ 1])
        start = int(re.match(r"bytes=(\d+)", self.headers.get("Range", "bytes=0"))[1])
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if large and self.command == "GET" and self.hub.break_after is not None:
            cut, self.hub.break_after = self.hub.break_after, None
            self.send_response(200)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content[:cut])
            self.close_connection = True
            return
        self._send(content[start:], 206 if start else 200, headers)

    def _create(self, body: bytes) -> None:
        wanted = json.loads(body)
        repo = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
        self.hub.repositories.setdefault(repo, Repository())
        self._send({"url": f"{self.hub.address}/{repo}", "name": repo, "id": repo})

    def _preupload(self, body: bytes, repo: str) -> None:
        names = [file["path"] for file in json.loads(body)["files"]]
        modes = {True: "lfs", False: "regular"}
        files = [
            {"path": n, "uploadMode": modes[n.endswith(".safetensors")], "shouldIgnore": False, "oid": None}
            for n in names
        ]
        self._send({"files": files})

    def _batch(self, body: bytes, repo: str) -> None:
        wanted = json.loads(body)["objects"]
        objects = [o | {"actions": {"upload": {"href": f"{self.hub.address}/upload/{o['oid']}"}}} for o in wanted]
        self._send({"transfer": "basic", "objects": objects})

    def _upload(self, body: bytes, oid: str) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.uploads[oid] = body
        self._send({})

    def _commit(self, body: bytes, repo: str) -> None:
        repository = self._repository(repo)
        if repository is None:
            return
        for line in body.decode().splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                repository.files[value["path"]] = self.hub.uploads[value["oid"]]
        repository.commits += 1
        url = f"{self.hub.address}/{repo}/commit/{repository.sha}"
        self._send({"success": True, "commitUrl": url, "commitOid": repository.sha})

    def _yaml(self, _: bytes) -> None:
        self._send({"warnings": [], "errors": []})

    _REPO = r"(?P<repo>[\w-]+/[\w.-]+)"
    _ROUTES = (
        (rf"GET /api/models/{_REPO}(?:/revision/[^/]+)?", _info),
        (rf"GET /api/models/{_REPO}/tree/.*", _tree),
        (rf"(?:GET|HEAD) /{_REPO}/resolve/[^/]+/(?P<path>.+)", _file),
        (r"POST /api/repos/create", _create),
        (rf"POST /api/models/{_REPO}/preupload/.*", _preupload),
        (rf"POST /{_REPO}\.git/info/lfs/objects/batch", _batch),
        (r"PUT /upload/(?P<oid>\w+)", _upload),
        (rf"POST /api/models/{_REPO}/commit/.*", _commit),
        (r"POST /api/validate-yaml", _yaml),
    )


@contextmanager
def serve() -> Iterator[Hub]:
    """A running Hub on a free local port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    hub = Hub(f"http://127.0.0.1:{server.server_port}")
    server.RequestHandlerClass = type("Handler", (_Handler,), {"hub": hub})
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def connected(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A running Hub that huggingface_hub takes for the real one."""
    with serve() as hub:
        constants = "huggingface_hub.constants"
        monkeypatch.setattr(f"{constants}.HF_HUB_OFFLINE", False)
        monkeypatch.setattr(f"{constants}.ENDPOINT", hub.address)
        monkeypatch.setattr(
            f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(f"{constants}.HF_HUB_DISABLE_XET", True)  # its storage protocol is not HTTP alone
        monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)  # between two attempts
        yield hub
