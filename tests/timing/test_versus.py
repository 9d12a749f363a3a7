"""Two versions in turns: the order, the ratios, the errors, and one measurement of this checkout against itself."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from sgt_jax.timing import attention, rounds, versus, versus_worker
from tests.support.paths import REPOSITORY

PACK = str(REPOSITORY / "tests/golden/perf/pack.npz")


def test_sides_are_asked_in_turns_and_the_first_call_of_each_does_not_count():
    asked = []

    def side(name, seconds):
        def call():
            asked.append(name)
            first = asked.count(name) == 1
            return rounds.Round(100.0 if first else seconds * len(asked), 0.0, {"loss": 2.5, "peak MB": len(asked)})

        return call

    found = rounds.alternate({"before": side("before", 3.0), "this": side("this", 1.0)}, 3)
    assert "".join(name[0] for name in asked) == "btbtbtbt"
    # The third call of all is the first that counts: 3 * 3 against 1 * 4 seconds, then 3 * 5 against 6, 3 * 7 against 8.
    assert rounds.ratios(found["before"][1:], found["this"][1:]) == [9 / 4, 15 / 6, 21 / 8]
    last = rounds.report("a step", found).splitlines()[-1]
    assert "this is 2.50 times as fast as before (2.25 to 2.62)" in last
    assert "apart by 0.0e+00 in the first round and 0.0e+00 in the last" in last
    found = rounds.alternate({"before": side("before", 3.0), "this": side("this", 1.0)}, 2, uncounted=0)
    assert [len(calls) for calls in found.values()] == [2, 2]
    assert ", 2 rounds in turns" in rounds.report("a run", found, uncounted=0)


def test_a_run_is_whole_unless_it_is_cut_and_a_picture_takes_twenty_steps(tmp_path):
    def steps(words):
        return versus.prepared(versus.parser().parse_args([*words.split(), "--before", "."]), tmp_path)["steps"]

    assert (steps("run configs/nano_sgt.py"), steps("run configs/nano_sgt.py --steps 4")) == (0, 4)
    assert (steps("sample package:nano"), steps("sample package:nano --steps 4")) == (20, 4)


def test_results_that_differ_are_seen_and_sizes_are_no_results():
    first = rounds.Round(1.0, 1.0, {"loss": 2.0, "norm": 1.0, "peak MB": 1.0, "operations": 5.0})
    second = rounds.Round(1.0, 1.0, {"loss": 2.0, "norm": 1.1, "peak MB": 9.0, "operations": 7.0})
    assert rounds.apart(first, second) == pytest.approx(0.1 / 1.1)


@pytest.mark.parametrize(
    "words, message",
    [
        ("muon configs/nano_sgt.py --before {empty}", r"--before .*: no checkout .* git worktree add .* d58c5c3"),
        (
            "muon configs/nano_sgt.py --before {here} --python {empty}/python",
            r"--python .*: no interpreter is there; name",
        ),
        ("step --before {here}", "step needs a file that ends in .py or .npz"),
        ("muon {pack} --before {here}", "muon needs a file that ends in .py, and not"),
        ("step configs/nano_sgd.py --before {here}", "nano_sgd.py: is not there; did you mean 'configs/nano_sgt.py'"),
        ("attention configs/nano_sgt.py --before {here}", "nano_sgt.py: is no pack in the reference's layout"),
        ("load --before {here} --rounds 0", "--rounds 0: at least 1"),
    ],
)
def test_what_is_not_there_is_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    given = words.format(here=REPOSITORY, empty=tmp_path, pack=PACK).split()
    assert versus.main(given) == 1
    *others, line = capsys.readouterr().err.splitlines()
    assert others in ([], ["starting both versions"])
    assert line.startswith("error: ") and re.search(message, line)


def test_this_version_has_every_name_that_a_worker_uses_where_the_table_says():
    for name, places in versus_worker.PLACES.items():
        module, _, attribute = places[0].partition(":")
        found = versus_worker.find(name)
        assert (
            (found.__name__ == attribute and found.__module__.startswith("sgt_jax"))
            if attribute
            else found.__name__ == module
        )


def test_a_name_comes_from_the_checkout_alone(monkeypatch):
    places = ("json:loads", "sgt_jax.batch:no_such_name", "sgt_jax.batch:TokenInfo")
    monkeypatch.setitem(versus_worker.PLACES, "own", places)
    assert versus_worker.find("own").__module__ == "sgt_jax.batch"
    monkeypatch.setitem(versus_worker.PLACES, "own", places[:2])
    with pytest.raises(ModuleNotFoundError, match="this version has own at none of json:loads"):
        versus_worker.find("own")


def test_the_pack_that_ships_has_the_sizes_of_the_figures():
    info = attention.read_pack(PACK)
    assert info.sample.shape == (1, 1105) and np.unique(info.sample).tolist() == [1, 2, 3, 4, 5]
    arrays = versus_worker.whole_pack(PACK)
    assert arrays["padded_images"].shape == (4, 3, 256, 256) and arrays["noise"].shape == (704, 64)
    assert not [name for name in arrays if name.startswith("drawn/")]


@pytest.mark.slow  # two pairs of processes that import JAX
def test_this_checkout_against_itself_computes_the_same(capsys):
    given = "attention --slots 160 --samples 2 --heads 2 --kv-heads 1 --head-size 8 --rounds 2".split()
    given += ["--before", str(REPOSITORY)]
    assert versus.main(given) == 0  # the whole matrix of scores, and the allowed blocks
    out = capsys.readouterr().out
    assert "xla before, blockwise now: processor time, 2 rounds in turns" in out
    assert 0 < float(re.search(r"apart by (\S+) in the first round", out)[1]) < 1e-5
    assert versus.main([*given, "--backends", "xla", "blocks"]) == 1
    error = capsys.readouterr().err
    assert (
        error.splitlines()[-1] == "error: this: its process ended with status 1, as it says above"
        and "'blocks'" in error
    )


def test_a_whole_run_is_cut_short_and_finds_nothing_compiled(monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/somewhere")
    asked = []

    def runs(command, env):
        asked.append(command)
        workdir = Path(next(word for word in command if word.startswith("--workdir=")).partition("=")[2])
        assert "JAX_COMPILATION_CACHE_DIR" not in env and not Path(env["XDG_CACHE_HOME"]).exists()
        workdir.mkdir(parents=True)
        (workdir / "metrics.jsonl").write_text('{"kind": "eval"}\n{"loss": 2.5}\n{"loss": 1.5}\n')
        return subprocess.CompletedProcess(command, 0 if len(asked) == 1 else 3)

    monkeypatch.setattr(versus_worker.subprocess, "run", runs)
    thing = versus_worker.run({"of": "configs/nano.py", "steps": 4})
    folder = thing.call()
    assert thing.facts(folder) == {"first loss": 2.5, "last loss": 1.5} and not folder.exists()
    assert asked[0][1:4] == ["-m", "sgt_jax.main", "--config=configs/nano.py"] and asked[0][-1] == "--config.total_steps=4"
    with pytest.raises(RuntimeError, match="ended with status 3"):
        thing.call()
