"""Content-security policies of pages that bring their own, such as a run's report with its script inside."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

NAME = b"content-security-policy"


class OwnPolicy:
    """Stands before the guard: of two policies of an answer the page's own is kept, which was set first. A browser
    holds a page to both, and the guard's lets no script run that stands in the page itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""

        async def answered(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [header for header in message["headers"] if header[0].lower() == NAME][:1]
                others = [header for header in message["headers"] if header[0].lower() != NAME]
                message["headers"] = [*others, *own]
            await send(message)

        await self._app(scope, receive, answered if scope["type"] == "http" else send)
