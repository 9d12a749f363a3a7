"""A server in a process of its own, under load, damaged requests and signals; the full campaigns are in docs/serving.md."""

import argparse

import pytest

pytest.importorskip("uvicorn", reason="pip install -e '.[serve,clients]' to test the server")

from sgt_jax.commands import bench_serve  # noqa: E402
from tests.support import serve_fuzz  # noqa: E402

pytestmark = pytest.mark.slow  # servers that compile everything that is usual


@pytest.fixture(scope="module")
def server():
    found = bench_serve.Server("package:nano", ["--queue", "32"])
    try:
        found.wait()
        yield found
    finally:
        found.process.kill()


def test_damaged_requests_hurt_nobody(server):
    found = serve_fuzz.fuzz(server, 50, seed=1)
    assert found["failed"] == [] and found["known_wrong"] == 0 and found["known_right"] == 1
    assert found["compiled_late"] == 0
    assert found["statuses"].get("400", 0) > 10


def test_under_load_nothing_is_lost_or_wrong_and_texts_share_the_processor(server):
    found = bench_serve.under_load(server, count=50, clients=8, seed=0)
    assert (found["lost"], found["wrong"], found["compiled_late"]) == (0, 0, 0)
    assert bench_serve.throughput(server, 16, 8)["times_one_at_a_time"] > 2  # the campaign measures it; here it is a guard


def test_sigterm_answers_what_was_accepted(server):
    found = bench_serve.stopped_under_load(server, 8)
    assert found == {"in_work": 8, "answered": 8, "lost": 0, "exit_status": 0}


def test_without_the_extra_one_line_says_what_to_install(monkeypatch, capsys):
    from sgt_jax.commands import serve

    monkeypatch.setitem(__import__("sys").modules, "uvicorn", None)
    assert serve.main(["--port", "0"]) == 1
    assert "pip install 'sgt_jax[serve]'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        serve.parser().parse_args(["--slots", "0"])
    assert serve.api_key(argparse.Namespace(api_key_file=None)) == ""
