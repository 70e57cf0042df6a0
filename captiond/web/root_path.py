"""The path under which a reverse proxy serves captiond: `[server] root_path`.

Some proxies remove it from the path of a request, and others pass it on. captiond serves both, and
also clients that reach it without the proxy, so that every URL which it writes works for all.
"""

from collections.abc import Sequence

from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send


class RootPath:
    """Middleware that sets `root_path` as ASGI defines it: `path` begins with it.

    A path that is one of captiond's own without the prefix counts as such. If the prefix is `/api`,
    `/api/tags` is therefore the call of that name, and not `/tags`.
    """

    def __init__(self, app: ASGIApp, root_path: str, routes: Sequence[BaseRoute]) -> None:
        self.app = app
        self._root_path = root_path
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._root_path and scope["type"] == "http":
            # The same object: what the routes add to it is read by the middleware outside.
            if not self._has_prefix(scope):
                scope["path"] = self._root_path + scope["path"]
            scope["root_path"] = self._root_path
        await self.app(scope, receive, send)

    def _has_prefix(self, scope: Scope) -> bool:
        path: str = scope["path"]
        # guard: prefix-is-a-whole-segment
        if path != self._root_path and not path.startswith(f"{self._root_path}/"):
            return False
        # guard: own-path-before-prefix
        return all(route.matches(scope)[0] is Match.NONE for route in self._routes)


def root_of(scope: Scope) -> str:
    """Return the prefix of the URLs of this request: the root path, or nothing."""
    # A mounted application has another root_path, and Starlette keeps the first one here.
    root: str = scope.get("app_root_path", scope.get("root_path", ""))
    return root


def own_path(scope: Scope) -> str:
    """Return the path of a request as the table of operations has it, without the root path."""
    path: str = scope["path"]
    return path.removeprefix(root_of(scope))
