"""The nano model paints a miniature of every benchmark into its official tree; a stopped run goes on to the same bytes."""

import json
import random
import shlex
import sys
import types

import pytest

from sgt_jax.commands import evaluate
from sgt_jax.data.text.tokenizer import Tokenizer
from sgt_jax.errors import DataError
from sgt_jax.evaluation.benchmarks import judging, painting, registry
from sgt_jax.evaluation.benchmarks.pictures import units
from sgt_jax.evaluation.benchmarks.records import Records
from sgt_jax.inference.assistant import Assistant
from sgt_jax.models.family import by_name
from tests.support import benchmark_folders as folders
from tests.support import tiny_omnigen2
from tests.support.paths import REPOSITORY

JUDGE = f"{shlex.quote(sys.executable)} {shlex.quote(str(REPOSITORY / 'tests/support/fake_judge.py'))}"
COMMON = ["--steps", "1", "--batch", "4", "--model", "nano"]


class Stopped(Exception):
    """What stands for a kill."""


@pytest.fixture(scope="module", autouse=True)
def one_model():
    """The command loads a model per call; here all calls share one, with its compiled programs."""
    model = evaluate.Model(evaluate.parser().parse_args(["--checkpoint", "package:nano"]))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(evaluate, "Model", lambda options: model)
        yield


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def run(name, tmp_path, out, *more):
    places = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / out)]
    return evaluate.main([name, "--checkpoint", "package:nano", *places, *COMMON, *more])


# Files of each tree, and one of them.
TREES = {
    "geneval": (3 * 5, "00000/samples/00003.png"),
    "geneval_long": (3 * 5, "00002/metadata.jsonl"),
    "gedit": (3 * 2, "nano/fullset/background_change/en/ea502fb2d017aafdfe73fc39cdc3f457_SRCIMG.png"),
    "dpg": (2, "scene_01.png"),
    "wise": (3, "1.png"),
    "imgedit": (2, "1000.png"),
}


# The other three differ in their guidance, which compiles a sampler of its own (5 s each), or in a file name alone.
SLOW = ("geneval_long", "gedit", "wise")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in TREES])
def test_a_stopped_run_goes_on_to_the_same_tree(tmp_path, name, monkeypatch, capsys):
    goes_on(tmp_path, name, monkeypatch, capsys)


@pytest.mark.slow  # OmniGen2 has programs of its own
@pytest.mark.parametrize("name", ["gedit", "imgedit"])
def test_edits_of_omnigen2_go_on_to_the_same_tree(tmp_path, name, monkeypatch, capsys):
    family, config = by_name("omnigen2"), tiny_omnigen2.config()
    params = tiny_omnigen2.random_params(family.model(config))
    assistant = Assistant(family, config, params, Tokenizer.nano(), default_shape=(16, 16))
    model = types.SimpleNamespace(assistant=assistant, params=params, digest="0" * 16)
    monkeypatch.setattr(evaluate, "Model", lambda options: model)
    goes_on(tmp_path, name, monkeypatch, capsys)
    manifest = json.loads((tmp_path / "whole" / name / "manifest.json").read_text())
    assert "solver" in manifest["settings"]["guidance"]  # OmniGen2's


def goes_on(tmp_path, name, monkeypatch, capsys):
    """Paints a miniature in one go, and stopped at a random file; both trees must be the same to the byte."""
    folders.PAINTED[name](tmp_path / "data" / name)
    assert run(name, tmp_path, "whole") == 0
    count, example = TREES[name]
    assert f"{name}: {count} of {count} files of the tree" in capsys.readouterr().out
    assert (tmp_path / "whole" / name / "pictures" / example).is_file()
    stop, write, written = random.Random(name).randrange(1, count), painting._write, set()

    def stopping(out, relative, data):
        if len(written) == stop:
            raise Stopped
        written.add(relative)
        write(out, relative, data)

    with monkeypatch.context() as patched:
        patched.setattr(painting, "_write", stopping)
        with pytest.raises(Stopped):
            run(name, tmp_path, "resumed")
    assert run(name, tmp_path, "resumed", "--check") == 1
    assert f"{count - stop} missing" in capsys.readouterr().out
    assert run(name, tmp_path, "resumed") == 0
    assert files_of(tmp_path / "resumed") == files_of(tmp_path / "whole")
    assert run(name, tmp_path, "resumed", "--check") == 0


def test_pictures_do_not_depend_on_the_share(tmp_path, capsys):
    folders.geneval(tmp_path / "data" / "geneval")
    assert run("geneval", tmp_path, "whole") == 0
    assert run("geneval", tmp_path, "shared", "--share", "1/2") == 0
    assert "5 of 15 files" in capsys.readouterr().out
    assert run("geneval", tmp_path, "shared", "--share", "0/2") == 0
    assert files_of(tmp_path / "shared") == files_of(tmp_path / "whole")


def test_check_names_what_is_too_much_or_cut_off(tmp_path, capsys):
    folders.dpg(tmp_path / "data" / "dpg")
    assert run("dpg", tmp_path, "out") == 0
    tree = tmp_path / "out" / "dpg" / "pictures"
    (tree / "notes.txt").write_text("x")
    (tree / "scene_00.png").write_bytes(b"\x89PNG\r\n")
    assert run("dpg", tmp_path, "out", "--check") == 1
    printed = capsys.readouterr().out
    assert "1 unreadable, such as scene_00.png" in printed and "1 unexpected, such as notes.txt" in printed


@pytest.mark.parametrize(
    "name, score", [("geneval", None), ("dpg", ("DPG score", 100.0)), ("imgedit", ("overall by BAGEL's copy", 4.5)),
                    pytest.param("gedit", ("en / overall", 4.0), marks=pytest.mark.slow)],
)  # fmt: skip
def test_a_judge_is_asked_and_its_verdicts_add_up(tmp_path, capsys, name, score):
    folders.PAINTED[name](tmp_path / "data" / name)
    assert run(name, tmp_path, "out", "--judge", JUDGE) == 0
    printed = capsys.readouterr()
    assert "pictures judged, 0 of" in printed.err
    if score:
        line = next(line for line in printed.out.splitlines() if line.strip().startswith(score[0]))
        assert float(line.split()[-1]) == pytest.approx(score[1])
        assert "prompts," in line or name == "gedit"  # a miniature is no whole benchmark, and says so


def tree_of(tmp_path, name="geneval"):
    folders.PAINTED[name](tmp_path / name)
    benchmark = registry.by_name(name)
    tree = units(benchmark, benchmark.read(tmp_path / name), 2, "nano")
    for unit in tree:
        folders.write_picture(tmp_path / "out" / painting.FOLDER / unit.path)
    return benchmark, tree, judging.requests(benchmark, tree, tmp_path / "out"), tmp_path / "out"


def test_a_judge_that_stops_is_asked_for_the_rest_only(tmp_path):
    benchmark, tree, lines, out = tree_of(tmp_path)
    said = []
    assert len(judging.judge(f"{JUDGE} --stop-after 2 --status 75", lines, out, say=said.append)) == 2
    assert len(judging.judge(JUDGE, lines, out, budget=1, say=said.append)) == 3
    records = judging.judge(JUDGE, lines, out, say=said.append)
    assert said == ["2 of 6 pictures judged, 4 of 6 are left", "1 of 1 pictures judged, 3 of 6 are left",
                    "3 of 3 pictures judged, 0 of 6 are left"]  # fmt: skip
    assert judging.judge("no-such-program", lines, out) and len(records) == 6  # nothing is left to ask
    entries = judging.score(benchmark, tree, records)
    assert entries["scores"]["single_object [3 of 553 prompts, 6 pictures]"] == 1.0


@pytest.mark.parametrize(
    "more, error",
    [("--say no-json", "no JSON object with an 'id'"), ("""--say '{"id": "x"}'""", "was not asked about"),
     ("--stop-after 1 --status 3", "exit status 3; 1 verdicts are kept"), ("--stop-after 1", "no line about 5 pictures")],
)  # fmt: skip
def test_a_judge_that_breaks_the_contract_is_one_line(tmp_path, more, error):
    _, _, lines, out = tree_of(tmp_path)
    with pytest.raises(DataError, match=error):
        judging.judge(f"{JUDGE} {more}", lines, out)


def test_errors_of_a_judge_are_asked_again(tmp_path):
    _, tree, lines, out = tree_of(tmp_path)
    code = "import sys,json; [print(json.dumps({'id': json.loads(l)['id'], 'error': 'busy'})) for l in sys.stdin]"
    said = []
    assert len(judging.judge(f"{shlex.quote(sys.executable)} -c {shlex.quote(code)}", lines, out, say=said.append)) == 0
    assert "the first error: 00000/samples/00000.png: busy" in said[0]
    assert len(judging.judge(JUDGE, lines, out)) == 6


@pytest.mark.parametrize(
    "name, verdict, error",
    [("geneval", {}, "no list 'detections'"), ("gedit", {"semantics": 11, "quality": 1}, "no number 0 to 10"),
     ("dpg", {"answers": [["yes"]]}, "a list per tile of"), ("imgedit", {"text": 3}, "has no 'text'"),
     ("wise", {"score": 1}, "of 1000 prompt_ids are missing")],
)  # fmt: skip
def test_verdicts_without_what_the_rule_needs_are_named(tmp_path, name, verdict, error):
    benchmark, tree, _, out = tree_of(tmp_path, name)
    records = Records(out / "verdicts.jsonl", "id")
    records.append({"id": tree[0].path, **verdict})
    with pytest.raises(DataError, match=error):
        judging.score(benchmark, tree, records)


def test_a_picture_to_edit_that_cannot_be_read_is_named(tmp_path, capsys):
    folders.imgedit(tmp_path / "data" / "imgedit")
    path = next((tmp_path / "data" / "imgedit").glob("*/1000.jpg"))
    path.write_bytes(path.read_bytes()[:100])
    assert run("imgedit", tmp_path, "out") == 0
    printed = capsys.readouterr().out
    assert "not painted: 1000: " in printed and "1 of 2 files" in printed
