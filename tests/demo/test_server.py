"""The page's server on a real socket: right answers, and hostile requests that leave it alive."""

import base64
import contextlib
import dataclasses
import http.client
import json
import socket
import threading
import zipfile
import zlib
from io import BytesIO

import cv2
import numpy as np
import pytest

from lrfr_jax.checkpoints import model_card
from lrfr_jax.demo import __main__ as demo
from lrfr_jax.demo import comparison, server
from lrfr_jax.errors import UserError
from lrfr_jax.pictures import resize
from lrfr_jax.trained.embedder import Embedder
from tests.evals.test_thresholds import entry

FACES = np.random.default_rng(5).integers(0, 256, (2, 112, 112, 3), np.uint8)
FIRST, SECOND = map(resize.encode_png, FACES)


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    """Asked at few sizes, of which each takes its time to compile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "RESOLUTIONS", (112, 96, 20, 18, 7))
        comparison._degraded.clear_cache()
        yield comparison.load(str(tiny_checkpoint), fusion="none", far=None)
    comparison._degraded.clear_cache()


@pytest.fixture(scope="module")
def running(model):
    with server.create_server([model], port=0) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def ask(running):
    def send(method, path, body=None, **headers):
        port = running.server_address[1]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers

    return send


def upload(ask, first, second, **more):
    asked = {"first": base64.b64encode(first).decode(), "second": base64.b64encode(second).decode(), **more}
    status, content, _ = ask("POST", "/compare", json.dumps(asked), **{"Content-Type": "application/json"})
    return status, json.loads(content)


def test_the_page_runs_its_own_script_alone(ask):
    status, content, headers = ask("GET", "/")
    policy = headers["Content-Security-Policy"]
    nonce = policy.split("'nonce-")[1].split("'")[0]
    assert status == 200
    assert f'<script nonce="{nonce}">'.encode() in content
    assert policy.startswith("default-src 'none'")
    assert ask("GET", "/")[2]["Content-Security-Policy"] != policy
    assert b"http" not in content.replace(b"http://www.w3.org/2000/svg", b"")  # nothing comes from elsewhere


def test_similarities_are_the_embedders(ask, model):
    status, answer = upload(ask, FIRST, SECOND)
    assert status == 200
    sizes = answer["resolutions"]
    assert (sizes[0], sizes[-1]) == (112, 7)
    first, second = (
        model.embedder.embed(np.repeat(FACES[k : k + 1], len(sizes), 0), resolution=sizes).vectors for k in (0, 1)
    )
    [found] = answer["models"]
    np.testing.assert_allclose([one["similarity"] for one in found["hr_lr"]], second @ first[0], atol=1e-6)
    np.testing.assert_allclose([one["similarity"] for one in found["lr_lr"]], (first * second).sum(axis=1), atol=1e-6)
    assert {(one["words"], one["is_same"]) for one in found["hr_lr"]} == {
        (
            "no decision: this model has no thresholds for fusion none: `python -m lrfr_jax.evaluate --calibrate` "
            "makes them",
            None,
        )
    }
    views = [
        cv2.imdecode(np.frombuffer(base64.b64decode(url.split(",")[1]), np.uint8), 1) for url in answer["views"][0]
    ]
    np.testing.assert_array_equal([view[..., ::-1] for view in views], FACES)
    small = cv2.imdecode(np.frombuffer(base64.b64decode(answer["views"][-1][1].split(",")[1]), np.uint8), 1)
    assert (
        np.abs(np.diff(small.astype(float), axis=0)).mean()
        < 0.2 * np.abs(np.diff(FACES[1].astype(float), axis=0)).mean()
    )


def test_decisions_are_by_the_thresholds_for_each_size(model):
    held = [entry("hr_hr", 112, threshold=-1.0), entry("hr_lr", 20, threshold=1.0), entry("lr_lr", 20, threshold=-1.0)]
    calibrated = dataclasses.replace(model, thresholds=held)
    found = comparison.compare([FIRST, SECOND], [calibrated], make_face=demo.resized)
    by_size = dict(zip(found["resolutions"], found["models"][0]["hr_lr"], strict=True))
    assert [by_size[size]["is_same"] for size in (112, 96, 20, 18)] == [True, False, False, None]
    assert by_size[20]["words"].startswith("not the same person: similarity")
    assert "a face of 18 px is smaller than anything that this model was calibrated on" in by_size[18]["words"]
    # A picture of 30 px counts as one of 30 px, whatever the slider says.
    small = resize.encode_png(FACES[1][:30, :30])
    found = comparison.compare([FIRST, small], [calibrated], make_face=demo.resized)
    assert found["models"][0]["hr_lr"][0]["is_same"] is False
    assert found["models"][0]["lr_lr"][1]["is_same"] is True


def test_the_fusion_is_that_of_the_card_unless_one_is_asked_for(tiny_checkpoint):
    embedder = Embedder.load(tiny_checkpoint)
    card = model_card.of_checkpoint(embedder.path, variables=embedder.variables, metadata=embedder.metadata)
    held = [entry("hr_hr", 112, fusion="none"), entry("hr_hr", 112, fusion="none", set="own")]
    path = model_card.write(embedder.path, dataclasses.replace(card, thresholds=held))
    try:
        loaded = comparison.load(str(tiny_checkpoint), fusion=None, far=None)
        assert (loaded.embedder.fusion, loaded.thresholds) == ("none", held)
        only = comparison.load(str(tiny_checkpoint), fusion=None, far=0.01, calibrated_on="own")
        assert only.thresholds == held[1:]
        other = comparison.load(str(tiny_checkpoint), fusion="sum", far=None)
        assert (other.embedder.fusion, other.thresholds) == ("sum", [])
        assert "for fusion sum: it is calibrated for fusion none (lfw: HR-HR 112 px); fusion none" in other.why_none
    finally:
        path.unlink()
    assert comparison.load(str(tiny_checkpoint), fusion=None, far=None).embedder.fusion == "sum"


def test_generated_faces(ask):
    status, content, headers = ask("GET", "/generated?identity=3&image=1")
    assert (status, headers["Content-Type"]) == (200, "image/png")
    assert cv2.imdecode(np.frombuffer(content, np.uint8), 1).shape == (112, 112, 3)
    assert content == comparison.generated(3, 1) != comparison.generated(4, 1)
    for query in ("", "?identity=1", "?identity=a&image=1", "?identity=-1&image=0", "?identity=100000&image=0"):
        status, content, _ = ask("GET", f"/generated{query}")
        assert status == 400
        assert "error" in json.loads(content)


def png_header(width, height):
    """A PNG that claims so many pixels and holds none of them."""

    def chunk(kind, content):
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def zip_bomb():
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("face.png", bytes(10_000_000))
    return packed.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.", "the second picture is"),
        (png_header(20_000, 20_000), "the second picture is 20000x20000, its pixels must number from 1 to 40000000"),
        (zip_bomb(), "the second picture is"),
        (b"<html><script>alert(1)</script></html>", "the second picture is"),
        (SECOND[:2000], "the second picture "),
        (b"", "the second picture is"),
    ],
    ids=["pickle", "huge", "zip", "html", "truncated", "empty"],
)
def test_hostile_uploads_are_refused_and_the_page_lives(ask, content, reason):
    status, answer = upload(ask, FIRST, content)
    assert status == 400
    assert answer["error"].startswith(reason)
    assert upload(ask, FIRST, SECOND)[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("GET", "/../../etc/passwd", None, {}, 404),
        ("GET", "/%2e%2e/secret", None, {}, 404),
        ("POST", "/", b"", {}, 404),
        ("GET", "/", None, {"Host": "evil.example"}, 403),
        ("POST", "/compare", b"{}", {"Content-Type": "text/plain"}, 415),
        ("POST", "/compare", b"{}", {"Content-Type": "application/json"}, 400),
        ("POST", "/compare", b"[" * 100_000, {"Content-Type": "application/json"}, 400),
        ("POST", "/compare", b'{"first": "!", "second": ""}', {"Content-Type": "application/json"}, 400),
        ("POST", "/compare", b'{"first": "", "second": "", "align": 2}', {"Content-Type": "application/json"}, 400),
        ("POST", "/compare", None, {"Content-Type": "application/json", "Content-Length": "99999999999"}, 413),
        ("POST", "/compare", None, {"Content-Type": "application/json", "Content-Length": "-1"}, 411),
        ("PUT", "/", b"", {}, 501),
    ],
)
def test_wrong_requests(ask, method, path, body, headers, status):
    assert ask(method, path, body, **headers)[0] == status
    assert ask("GET", "/")[0] == 200


def test_what_is_no_address_is_refused(ask, running, caplog):
    with socket.create_connection(running.server_address, timeout=60) as connection:
        host = f"127.0.0.1:{running.server_address[1]}"
        connection.sendall(f"GET http://[/ HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        answer = connection.makefile("rb").read()
    assert b" 400 " in answer.splitlines()[0]
    assert b"this is no address" in answer
    assert caplog.text == ""
    assert ask("GET", "/")[0] == 200


def is_over(connection):
    """Sends one more byte; whether the other side has answered or gone."""
    try:
        connection.sendall(b"x")
        connection.recv(4096)
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("start", [b"GET / HTTP/1.0\r\nHost: ", b"POST /compare HTTP/1.0\r\nContent-Length: 900\r\n"])
def test_who_sends_a_byte_now_and_then_is_dropped(ask, running, monkeypatch, start):
    monkeypatch.setattr(server, "SECONDS_TO_SEND", 0.2)
    host = f"Host: 127.0.0.1:{running.server_address[1]}\r\nContent-Type: application/json\r\n\r\n".encode()
    with socket.create_connection(running.server_address, timeout=60) as connection:
        connection.sendall(start + (host if start.startswith(b"POST") else b""))
        connection.settimeout(0.05)
        assert any(map(is_over, [connection] * 1200))
    assert ask("GET", "/")[0] == 200


def test_a_fault_of_ours_is_told_and_the_page_lives(ask, monkeypatch, caplog):
    monkeypatch.setattr(comparison, "compare", lambda *_, **__: 1 / 0)
    assert upload(ask, FIRST, SECOND) == (500, {"error": "this comparison failed; the terminal says why"})
    assert "ZeroDivisionError" in caplog.text
    assert ask("GET", "/")[0] == 200


def test_only_this_machine(running):
    assert running.server_address[0] == "127.0.0.1"


def test_wrong_calls(tiny_checkpoint, model, running, capsys):
    with pytest.raises(UserError, match=r"--port \d+ cannot be taken"):
        server.create_server([model], port=running.server_address[1])
    with pytest.raises(UserError, match="this model has no thresholds for fusion none"):
        comparison.load(str(tiny_checkpoint), fusion="none", far=0.01)
    with pytest.raises(SystemExit, match="1"):
        demo.main(["--checkpoint", "a", "--checkpoint", "b", "--checkpoint", "c"])
    assert "--checkpoint was given 3 times: the page compares 2" in capsys.readouterr().err


def test_ports_and_places_are_looked_at_before_a_model_is_loaded(tiny_checkpoint, running, monkeypatch, capsys):
    monkeypatch.setattr(comparison, "load", lambda *args, **kwargs: pytest.fail("a model was loaded"))
    with pytest.raises(SystemExit, match="1"):
        demo.main(["--checkpoint", str(tiny_checkpoint), "--port", str(running.server_address[1])])
    assert "cannot be taken" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="1"):
        demo.main(["--checkpoint", str(tiny_checkpoint), "--checkpoint", "nowhere", "--port", "0"])
    assert "nowhere is no checkpoint" in capsys.readouterr().err
