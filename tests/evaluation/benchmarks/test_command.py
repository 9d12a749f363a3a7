"""The command: what is missing, a server instead of a model, and errors that are one line."""

import base64
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from sgt_jax.commands import evaluate
from tests.support import benchmark_folders as folders


class Server(BaseHTTPRequestHandler):
    """Answers A; the third request fails once."""

    bodies, failed = [], []

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.bodies.append((self.path, self.headers["authorization"], body))
        fails = len(self.bodies) == 3 or self.server.broken
        self.send_response(500 if fails else 200)
        self.end_headers()
        if not fails:
            self.wfile.write(json.dumps({"choices": [{"message": {"role": "assistant", "content": " A\n"}}]}).encode())

    def log_message(self, *given):
        pass


@pytest.fixture
def server():
    Server.bodies = []
    made = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    made.broken = False
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def test_a_server_is_scored_by_our_rules(tmp_path, server, capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    folders.toolkit_tables(tmp_path / "data", "mmvp")
    where = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    arguments = [
        "mmvp",
        "--base-url",
        f"http://127.0.0.1:{server.server_port}/v1/",
        "--model",
        "served",
        "--batch",
        "4",
        *where,
    ]
    server.broken = True
    assert evaluate.main(arguments) == 1
    assert "3 requests failed" in capsys.readouterr().err
    server.broken = False
    assert evaluate.main(arguments) == 0
    assert "Average [40 of 300 items]" in capsys.readouterr().out
    path, key, body = Server.bodies[-1]
    assert path == "/v1/chat/completions" and key == "Bearer secret"
    assert (body["model"], body["max_tokens"], body["temperature"], body["n"]) == ("served", 100, 0, 1)
    picture, text = body["messages"][0]["content"]
    assert text["text"].startswith("Question: ")
    head, _, data = picture["image_url"]["url"].partition(",")
    assert head == "data:image/png;base64" and Image.open(io.BytesIO(base64.b64decode(data))).size[0] > 0
    assert (tmp_path / "out" / "benchmarks.html").exists()
    assert next((tmp_path / "out" / "mmvp" / "work" / "served").glob("T*/served_MMVP.tsv"))


def test_a_dry_run_lists_what_is_missing_and_where_it_comes_from(tmp_path, capsys):
    folders.toolkit_tables(tmp_path, "mmvp")
    folders.geneval_long(tmp_path / "geneval_long")
    assert evaluate.main(["sgt-main", "--data", str(tmp_path), "--dry-run"]) == 1
    printed = capsys.readouterr().out
    assert "mmvp             40 of 300 items" in printed and "geneval_long     3 of 553 items" in printed
    assert "vsr              missing: " in printed and "get it from cambridgeltl/vsr_zeroshot (CC BY 4.0" in printed
    assert evaluate.main(["mmvp", "--data", str(tmp_path), "--dry-run"]) == 0


@pytest.mark.parametrize(
    "arguments, error",
    [
        ([], "name a benchmark or a suite"),
        (["mvp"], "no benchmark 'mvp'"),
        (["mmvp"], "give --checkpoint DIR, or --base-url"),
        (["geneval", "--base-url", "http://x"], "--base-url answers questions only"),
        (["mmvp", "--batch", "0"], "--batch must be"),
        (["geneval", "--check"], "no such folder"),
    ],
)
def test_wrong_calls_are_one_line(capsys, arguments, error):
    assert evaluate.main(arguments) == 1
    assert error in capsys.readouterr().err
