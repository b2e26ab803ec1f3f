"""Requests to a Ray dashboard, with the token that shuts it to others.

Whoever reaches one runs code there (CVE-2023-48022): one on another host is asked nothing without.
"""

import ipaddress
import json
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from pipeline import RunError, UsageError, token
from pipeline.components import one_line

TIMEOUT_S = 60.0
LONGEST = 500


@dataclass(frozen=True)
class Server:
    """A dashboard by its URL. Raises UsageError for what is no such URL."""

    address: str

    def __post_init__(self):
        parts = urlsplit(self.address)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise UsageError(
                f"submit.address={self.address}: give http://<host>:8265, the cluster's dashboard"
            )

    @property
    def local(self) -> bool:
        """Whether it listens on this machine's loopback."""
        return _is_loopback(urlsplit(self.address).hostname or "")

    def url(self, path: str) -> str:
        """Where a request goes."""
        return self.address.rstrip("/") + path

    def ask(self, method: str, path: str, **content: Any) -> Any:
        """The JSON of an answer. Raises RunError with the server's own words if it refuses."""
        return self._accepted(path, self._sent(method, path, content))

    def find(self, path: str) -> Any:
        """The JSON at a path, None where there is none."""
        answer = self._sent("GET", path, {})
        return None if answer.status_code == 404 else self._accepted(path, answer)

    def holds(self, path: str) -> bool:
        """Whether something is at a path."""
        return self._sent("GET", path, {}).status_code == 200

    def _accepted(self, path: str, answer: requests.Response) -> Any:
        if answer.status_code != 200:
            said = _said(answer.text)
            raise RunError(f"{self.address} refuses {path} ({answer.status_code}): {said}")
        return answer.json() if "json" in answer.headers.get("Content-Type", "") else None

    def _sent(self, method: str, path: str, content: dict[str, Any]) -> requests.Response:
        """Any answer but one that asks for a token. Raises UsageError where there is none."""
        known, local = token.find(), self.local
        if known is None and not local:
            raise UsageError(
                f"submit.address={self.address} is another host, and there is no token: whoever "
                "reaches such a server without one runs code on it. Start it with "
                "RAY_AUTH_MODE=token and put its token into RAY_AUTH_TOKEN or ~/.ray/auth_token"
            )
        token.protect()
        with requests.Session() as session:
            session.trust_env = not local  # no proxy for what is on this machine
            try:
                answer = session.request(
                    method,
                    self.url(path),
                    auth=_Bearer(known),
                    timeout=TIMEOUT_S,
                    allow_redirects=False,
                    **content,
                )
            except requests.RequestException as error:
                raise RunError(
                    f"submit.address={self.address}: nobody answers ({_said(str(error))}); is it "
                    "the dashboard's address, and has the head ray[default]?"
                ) from None
        if answer.status_code in (401, 403):
            raise UsageError(
                f"submit.address={self.address}: {_said(answer.text)}; put the cluster's token "
                "into RAY_AUTH_TOKEN or ~/.ray/auth_token"
            )
        return answer


class _Bearer(AuthBase):
    """Our token, whatever .netrc holds."""

    def __init__(self, known: str | None):
        self.known = known

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.known is not None:
            r.headers["Authorization"] = f"Bearer {self.known}"
        return r


def _is_loopback(host: str) -> bool:
    """Whether all that a name stands for is this machine."""
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(str(one).partition("%")[0]).is_loopback for one in found)


def _said(text: str) -> str:
    """The words of an answer: its `msg`, or the last line of a traceback."""
    with suppress(ValueError, KeyError, TypeError):
        text = json.loads(text)["msg"]
    lines = [line for line in str(text).splitlines() if line.strip()]
    if lines and lines[0].startswith("Traceback"):
        lines = lines[-1:]
    return one_line(ValueError(" ".join(lines)))[:LONGEST]
