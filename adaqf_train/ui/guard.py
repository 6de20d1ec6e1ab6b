"""What the page's server answers: requests under its own names, and no uploads."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]
LOCAL = ("localhost", "127.0.0.1", "::1")


class Guard:
    """ASGI middleware that refuses foreign `Host` headers and uploads.

    A page of a stranger can give its own name the address 127.0.0.1 and so send requests to this server (DNS
    rebinding); the browser then names the stranger's page as the host.

    Args:
        app: The application behind it.
        names: Hosts under which the page may be opened.
        addresses: Whether any IP address counts as such a name, because the server listens for other machines.
        every: Whether any host does, because the server is public.
    """

    def __init__(self, app: App, names: Collection[str] = LOCAL, *, addresses: bool = False, every: bool = False):
        self.app, self.names, self.addresses, self.every = app, {name.lower() for name in names}, addresses, every

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        """Answer a request, or let the application answer it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        hosts = [value.decode("latin-1") for name, value in scope.get("headers", ()) if name.lower() == b"host"]
        if len(hosts) != 1 or not self.allows(hosts[0]):
            await _refuse(scope, send, 400, "This host name is not allowed. Open the page by the printed address.")
        elif "upload" in scope.get("path", "").lower():
            await _refuse(scope, send, 403, "This page takes no files.")
        else:
            await self.app(scope, receive, send)

    def allows(self, host: str) -> bool:
        """Whether the page may be opened under this `Host`, with or without a port."""
        name = host.strip().lower()
        if name.startswith("["):
            name, _, port = name[1:].partition("]")
            port = port.removeprefix(":")
        else:
            name, _, port = name.partition(":")
        if port and not (port.isascii() and port.isdigit()):
            return False
        return self.every or name in self.names or (self.addresses and _is_address(name))


def options(host: str, allowed: Collection[str] = ()) -> dict[str, Any]:
    """The guard's options for a server that listens on `host` and has these further names."""
    local = host in LOCAL
    # A Space of the Hub is public, and its proxy's name is not known here.
    return {"names": {*LOCAL, host, *allowed}, "addresses": not local, "every": "SPACE_ID" in os.environ}


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _refuse(scope: Message, send: Callable[[Message], Awaitable[None]], status: int, text: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
