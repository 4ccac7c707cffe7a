"""Downloads by the real client of the hub from a server here, as from a mirror: resumed, and checked by SHA-256."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

NAME = "my-lab/vit"
COMMIT = "a" * 40
# More than two of the pieces of 10 MB that the client writes.
CONTENT = {"config.json": b'{"model_type": "dinov2"}', "model.safetensors": bytes(range(256)) * 90_000}


class Mirror:
    """A hub with one model.

    Attributes:
        address: For HF_ENDPOINT.
        ranges: Values of the header Range, as they were asked for.
        served: What is sent instead of the content.
        cut: Close the connection in the middle of so many answers.
    """

    def __init__(self) -> None:
        self.address, self.ranges, self.served, self.cut = "", [], dict(CONTENT), 0


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    state = Mirror()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(is_head=True)

        def do_GET(self) -> None:
            self.answer(is_head=False)

        def log_message(self, *_: Any) -> None:
            pass

        def answer(self, *, is_head: bool) -> None:
            name = self.path.split("?")[0].rpartition("/")[2]
            if "/resolve/" in self.path and name in CONTENT:
                self.send_content(name, is_head=is_head)
            elif self.path.startswith(f"/api/models/{NAME}/tree/"):
                tree = [{"type": "file", "path": name, "size": len(CONTENT[name]), "oid": "b" * 40} for name in CONTENT]
                self.send_bytes(json.dumps(tree).encode(), {}, 200, is_head)
            elif self.path.startswith("/api/models/"):
                files = [{"rfilename": name} for name in CONTENT]
                self.send_bytes(json.dumps({"id": NAME, "sha": COMMIT, "siblings": files}).encode(), {}, 200, is_head)
            else:
                self.send_bytes(b"{}", {}, 404, is_head)

        def send_content(self, name: str, *, is_head: bool) -> None:
            sha256 = hashlib.sha256(CONTENT[name]).hexdigest()
            # The hub tells the SHA-256 of large files, another hash of small ones.
            etag = sha256 if name == "model.safetensors" else sha256[:40]
            headers = {"ETag": f'"{etag}"', "X-Linked-Etag": f'"{etag}"', "X-Repo-Commit": COMMIT}
            body, status = state.served[name], 200
            wanted = self.headers.get("Range")
            if wanted and not is_head:
                state.ranges.append(wanted)
                first = int(wanted.removeprefix("bytes=").split("-")[0])
                headers["Content-Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
                body, status = body[first:], 206
            self.send_bytes(body, headers, status, is_head)

        def send_bytes(self, body: bytes, headers: dict[str, str], status: int, is_head: bool) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if is_head:
                return
            if state.cut and len(body) > 1000:
                state.cut -= 1
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                self.close_connection = True
                return
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield state
    server.shutdown()
    server.server_close()


@pytest.fixture
def download(mirror: Mirror, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`guidino weights download` in a process of its own, since the client reads its environment when imported."""
    kept = {name: value for name, value in os.environ.items() if name not in {"HF_HUB_OFFLINE", "GUIDINO_WEIGHTS"}}
    own = {"HF_ENDPOINT": mirror.address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "*"}

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "guidino_cli", "weights", "download", NAME, *words]
        return subprocess.run(command, env=kept | own, capture_output=True, text=True, timeout=120)

    return call


@pytest.mark.parametrize("into_folder", [False, True])
def test_a_cut_download_goes_on_where_it_stopped(
    into_folder: bool, download: Callable[..., Any], mirror: Mirror, tmp_path: Path
) -> None:
    mirror.cut = 1
    done = download(*(["-o", str(tmp_path / "vit")] if into_folder else []))
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    assert (folder / "model.safetensors").read_bytes() == CONTENT["model.safetensors"]
    (asked,) = mirror.ranges
    assert int(asked.removeprefix("bytes=").removesuffix("-")) >= 10_000_000
    assert folder == tmp_path / "vit" if into_folder else folder.is_relative_to(tmp_path / "home")


@pytest.mark.parametrize("into_folder", [False, True])
def test_a_file_with_another_hash_than_the_hub_states_is_refused_and_fetched_again(
    into_folder: bool, download: Callable[..., Any], mirror: Mirror, tmp_path: Path
) -> None:
    words = ["-o", str(tmp_path / "vit")] if into_folder else []
    mirror.served["model.safetensors"] = CONTENT["model.safetensors"][:-1] + b"!"
    done = download(*words)
    assert done.returncode == 4
    assert "model.safetensors arrived damaged, with SHA-256 " in done.stderr
    assert f"expected {hashlib.sha256(CONTENT['model.safetensors']).hexdigest()[:12]}..." in done.stderr
    assert not (tmp_path / "vit").exists()
    mirror.served = dict(CONTENT)
    done = download(*words)
    assert done.returncode == 0, done.stderr
    assert (Path(done.stdout.strip()) / "model.safetensors").read_bytes() == CONTENT["model.safetensors"]
