"""The page's server: loopback only; nothing is stored; an upload is capped before it is read and before it is decoded.

GET / is the page, GET /generated?identity=I&image=K a generated face, POST /compare {first, second: base64 of an image
file, align: whether they are photos} what `comparison.compare` returns. Errors are {error: one sentence}.
"""

import base64
import binascii
import contextlib
import functools
import http.server
import importlib.resources
import json
import logging
import secrets
import socket
import threading
import urllib.parse
from collections.abc import Sequence
from typing import Any

from lrfr_jax.demo import comparison
from lrfr_jax.demo.comparison import Model
from lrfr_jax.errors import UserError
from lrfr_jax.pictures.faces import way_to_face

logger = logging.getLogger("lrfr_jax")

HOST = "127.0.0.1"
MAX_PICTURE_BYTES = 10 * 2**20
# Base64 takes four characters for three bytes; the rest is JSON around two pictures.
MAX_BODY_BYTES = 2 * (MAX_PICTURE_BYTES * 4 // 3 + 4) + 1024
SECONDS_TO_SEND = 30  # for a whole request: one that takes longer is dropped
POLICY = (
    "default-src 'none'; img-src data:; connect-src 'self'; style-src 'unsafe-inline'; script-src 'nonce-{nonce}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class _Refused(Exception):
    """A request that gets this status, and the sentence as its answer."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status


def create_server(models: Sequence[Model], *, port: int) -> http.server.ThreadingHTTPServer:
    """Binds the server to the loopback interface; port 0 takes a free one.

    Raises:
      UserError: the port is in use, or not this user's to take.
    """
    handler = functools.partial(_Handler, models, threading.Lock())
    try:
        server = http.server.ThreadingHTTPServer((HOST, port), handler)
    except (OSError, OverflowError) as error:
        raise UserError(f"--port {port} cannot be taken ({error}): choose another, or 0 for a free one") from error
    server.daemon_threads = True
    return server


class _Handler(http.server.BaseHTTPRequestHandler):
    """One request; of several that want a comparison, one is computed at a time."""

    server_version, sys_version = "lrfr_jax", ""
    timeout = SECONDS_TO_SEND

    def __init__(self, models: Sequence[Model], lock: threading.Lock, *arguments: Any):
        self._models, self._lock = models, lock
        super().__init__(*arguments)

    def setup(self) -> None:
        """Starts the clock: `timeout` counts from read to read, so a byte now and then would hold the thread."""
        super().setup()
        self._clock = threading.Timer(SECONDS_TO_SEND, self._hang_up)
        self._clock.daemon = True
        self._clock.start()

    def finish(self) -> None:
        """Stops the clock."""
        self._clock.cancel()
        super().finish()

    def _hang_up(self) -> None:
        with contextlib.suppress(OSError):  # who asked may have gone
            self.connection.shutdown(socket.SHUT_RD)

    def do_GET(self) -> None:
        """Answers / and /generated."""
        self._answer({"/": self._page, "/generated": self._generated})

    def do_POST(self) -> None:
        """Answers /compare."""
        self._answer({"/compare": self._compare})

    def log_message(self, format: str, *arguments: Any) -> None:
        """Keeps requests out of the terminal."""

    def _answer(self, ways: dict[str, Any]) -> None:
        try:
            self._check_host()
            way = ways.get(self._place())
            if way is None:
                raise _Refused(404, "there is nothing here: the page is at /")
            self._send(200, *way())
        except _Refused as refused:
            self._send_json(refused.status, {"error": str(refused)})
        except UserError as error:
            self._send_json(400, {"error": str(error)})
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except Exception:
            logger.exception("the demo could not answer %s", self.path[:100])
            self._send_json(500, {"error": "this comparison failed; the terminal says why"})

    def _place(self) -> str:
        try:
            return urllib.parse.urlsplit(self.path).path
        except ValueError as error:
            raise _Refused(400, "this is no address: the page is at /") from error

    def _check_host(self) -> None:
        """A page elsewhere whose name was pointed at this machine may not talk to it."""
        port = self.server.server_address[1]
        if self.headers.get("Host") not in (f"{HOST}:{port}", f"localhost:{port}"):
            raise _Refused(403, f"open http://{HOST}:{port}/ instead")

    def _page(self) -> tuple[str, bytes, dict[str, str]]:
        nonce = secrets.token_urlsafe(16)
        text = importlib.resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
        policy = {"Content-Security-Policy": POLICY.format(nonce=nonce)}
        return "text/html; charset=utf-8", text.replace("NONCE", nonce).encode(), policy

    def _generated(self) -> tuple[str, bytes, dict[str, str]]:
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        try:
            identity, image = (int(query[name][0][:9]) for name in ("identity", "image"))
        except (KeyError, ValueError) as error:
            raise _Refused(400, "say which face: /generated?identity=0&image=0") from error
        return "image/png", comparison.generated(identity, image), {}

    def _compare(self) -> tuple[str, bytes, dict[str, str]]:
        pictures, align = self._read_pictures()
        make_face = way_to_face(resize=not align, align=align)
        with self._lock:
            found = comparison.compare(pictures, self._models, make_face=make_face)
        return "application/json", json.dumps(found).encode(), {}

    def _read_pictures(self) -> tuple[list[bytes], bool]:
        if self.headers.get_content_type() != "application/json":
            raise _Refused(415, "send application/json")  # which a form of another page cannot
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise _Refused(411, "say how long the request is: Content-Length")
        if len(length) > 12 or int(length) > MAX_BODY_BYTES:
            self.close_connection = True
            raise _Refused(413, f"a picture may have at most {MAX_PICTURE_BYTES // 2**20} MB")
        try:
            content = self.rfile.read(int(length))
            self._clock.cancel()
            if len(content) < int(length):
                raise TimeoutError
            asked = json.loads(content)
            pictures = [base64.b64decode(asked[name], validate=True) for name in ("first", "second")]
            align = asked.get("align", False)
            if not isinstance(align, bool):
                raise TypeError(align)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
            raise _Refused(400, "send {first, second: base64 of an image file, align: true or false}") from error
        if max(map(len, pictures)) > MAX_PICTURE_BYTES:
            raise _Refused(413, f"a picture may have at most {MAX_PICTURE_BYTES // 2**20} MB")
        return pictures, align

    def _send_json(self, status: int, content: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(content).encode(), {})

    def _send(self, status: int, kind: str, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        always = {"Content-Type": kind, "Content-Length": str(len(content)), "Cache-Control": "no-store"}
        always |= {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
        for name, value in (always | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
