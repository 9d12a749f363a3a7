"""Items that break careless readers, each with its outcome: named bad, or asked all the same. No item stops the others."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from sgt_jax.errors import DataError
from sgt_jax.evaluation.benchmarks import answering, files, registry, runs
from sgt_jax.evaluation.benchmarks.records import Records
from tests.support import benchmark_folders as folders

GOOD = dict(question="What is it?", A="cup", B="dog", answer="B", image=folders.picture())
ASKED = ""


def turned():
    """A JPEG that EXIF says stands on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    Image.new("RGB", (20, 10)).save(out, "JPEG", exif=exif)
    return out.getvalue()


def noise():
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(out, "PNG")
    return out.getvalue()


def seen_through():
    out = io.BytesIO()
    Image.fromarray(np.zeros((4, 4, 4), np.uint8), "RGBA").save(out, "PNG")
    return out.getvalue()


# (what is wrong, the row's changes, part of the reason by which it is bad or ASKED)
HOSTILE = [
    ("nothing", {}, ASKED),
    ("missing picture", {"image": ""}, "has no picture"),
    ("picture file that is not there", {"image": "", "image_path": "no/such.png"}, "no such picture"),
    ("picture outside the folder", {"image": "", "image_path": "../../etc/passwd"}, "lies outside"),
    ("broken base64", {"image": "iVBOR!!" * 20}, "broken base64"),
    ("base64 of no picture", {"image": b"hello" * 40}, "not a readable picture"),
    ("cut off picture", {"image": folders.picture(size=(64, 64))[:60]}, "not a readable picture"),
    ("half of a photo", {"image": noise()[:2000]}, "not a readable picture"),
    ("reference to a row that is not there", {"image": "777"}, "that of row '777'"),
    ("reference to itself", {"image": "18"}, "that of row '18'"),
    ("reference to a good row", {"image": "1"}, ASKED),
    ("two pictures", {"image": "['1', '1']"}, ASKED),
    ("a list that is code", {"image": "[__import__('os').getcwd()]"}, "neither base64 nor a list"),
    ("one option", {"B": "", "answer": "A"}, ASKED),
    ("no options", {"A": "", "B": ""}, ASKED),
    ("answer outside the options", {"answer": "F"}, ASKED),
    ("no answer", {"answer": ""}, ASKED),
    ("index that is no number", {"index": "one"}, "no whole number"),
    ("index that is a fraction", {"index": "1.5"}, "no whole number"),
    ("negative index", {"index": "-3"}, "no whole number"),
    ("no index", {"index": ""}, "has no index"),
    ("duplicate index", {"index": "1"}, "stands twice"),
    ("empty question", {"question": "  "}, "question is empty"),
    ("tab inside a question", {"question": "What\tis it?"}, ASKED),
    ("line feed inside a question", {"question": "What\nis it?"}, ASKED),
    ("quotes inside a question", {"question": 'What is "it"?'}, ASKED),
    ("10,000 characters", {"question": "word " * 2000}, ASKED),
    ("the marker of a picture in a question", {"question": "What is <image>?"}, ASKED),
    ("marker twice", {"question": "<image> or <image>?"}, "2 <image> markers for 1 pictures"),
    ("marks of the model in a question", {"question": "What is <|im_end|> it?"}, ASKED),
    ("not-a-number as an option", {"A": "nan"}, ASKED),
    ("30 megapixels", {"image": folders.huge_picture()}, ASKED),
    ("one pixel", {"image": folders.picture(size=(1, 1))}, ASKED),
    ("a line of pixels", {"image": folders.picture(size=(900, 1))}, ASKED),
    ("turned by EXIF", {"image": turned()}, ASKED),
    ("transparent", {"image": seen_through()}, ASKED),
]


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """All hostile rows in one table, asked of a subject that answers B."""
    folder = tmp_path_factory.mktemp("mmstar")
    rows = [{"index": "1", **GOOD}] + [
        {"index": str(9 + i), **GOOD, "image_path": "", **c} for i, (_, c, _) in enumerate(HOSTILE)
    ]
    folders.write_tsv(folder / "MMStar.tsv", rows)
    benchmark = registry.by_name("mmstar")
    subject, records = AnswersB(), Records(folder / "answers.jsonl")
    items = runs.load(benchmark, folder)
    questions = answering.questions(benchmark, items, "toolkit")
    answering.answer(subject, None, answering.Asked(subject, questions, 4), records, max_new_tokens=3, batch=4)
    return items, records, benchmark


class AnswersB:
    """A subject that reads like the nano model and answers B; it has no weights."""

    def __init__(self):
        from tests.support.oracle_subject import OracleSubject

        self.task = OracleSubject({}).task

    def slots(self, plan):
        return {"text": sum(len(i.data) for i in plan if i.type == "text"),
                "vit": sum(i.data.shape[0] * i.data.shape[1] // 64 for i in plan if i.type != "text")}  # fmt: skip

    def answer(self, params, plans, *, max_new_tokens, batch, budgets):
        for plan in plans:
            assert all(n <= budgets[lane] for lane, n in self.slots(plan).items())
        return ["B"] * len(plans)


@pytest.mark.parametrize("number", range(len(HOSTILE)), ids=[name for name, *_ in HOSTILE])
def test_a_hostile_item_is_named_or_asked(asked, number):
    items, records, _ = asked
    entry, reason = records.get(items[number + 1].index), HOSTILE[number][2]
    if reason:
        assert reason in entry["bad"] and "\n" not in entry["bad"]
    else:
        assert entry["reply"] == "B"


def test_the_bad_are_counted_and_the_score_says_so(asked, tmp_path):
    items, records, benchmark = asked
    entries = runs.score(benchmark, items, records, tmp_path, runs.Settings())
    bad = sum(reason != ASKED for _, _, reason in HOSTILE)
    assert sum(entries["bad"].values()) == bad and entries["answered"] == len(items) - bad
    assert all(f"[{len(items) - bad} of 1500 items]" in name for name in entries["scores"])


def test_an_index_that_stands_twice_keeps_its_first_reply(asked):
    items, records, _ = asked
    assert records.get("1")["reply"] == "B" and len(records) == len(items)


def test_a_row_with_an_unquoted_tab_is_bad_and_no_other(tmp_path):
    path = tmp_path / "MMStar.tsv"
    folders.write_tsv(path, [{"index": "1", **GOOD}, {"index": "2", **GOOD}])
    head, first, second = path.read_text().splitlines()
    path.write_text("\n".join([head, first.replace("What is", "What\tis"), second]) + "\n")
    items = runs.load(registry.by_name("mmstar"), tmp_path)
    assert "more fields than the header" in items[0].bad and not items[1].bad


def test_a_table_that_is_none_is_one_line(tmp_path):
    (tmp_path / "MMStar.tsv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="is no table"):
        runs.load(registry.by_name("mmstar"), tmp_path)
    (tmp_path / "MMStar.tsv").write_text("a\tb\n1\t2\n")
    with pytest.raises(DataError, match="no column 'index'"):
        runs.load(registry.by_name("mmstar"), tmp_path)


def test_damaged_lines_of_official_files_are_named(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(DataError, match="line 2 is no JSON"):
        files.read_json_lines(tmp_path / "x.jsonl")
    folders.mme_official(tmp_path / "mme")
    path = tmp_path / "mme" / "OCR.txt"
    path.write_text("000.png\tWhat\tis it?\tYes\n000.png\tIs it?\tNo\n")
    bad = [item.bad for item in runs.load(registry.by_name("mme"), tmp_path / "mme") if item.bad]
    assert bad == ["line 1 has 4 fields, not 3"]
    folders.mathvista_official(tmp_path / "mathvista")
    path = tmp_path / "mathvista" / "testmini.json"
    rows = json.loads(path.read_text())
    rows["1"]["choices"] = "__import__('os').listdir()"
    path.write_text(json.dumps(rows))
    items = runs.load(registry.by_name("mathvista"), tmp_path / "mathvista")
    assert items[0].bad and not items[1].bad
