"""A report of an invented run: complete, self-contained, well-formed, and rebuilt from the files alone."""

import html.parser
import io
import json
import re

import numpy as np
import pytest
from etils import epath

from sgt_jax.evaluation import items, statistics
from sgt_jax.evaluation.result import Result
from sgt_jax.evaluation.rules.answers import score_answers
from sgt_jax.reporting import run_page, run_results
from sgt_jax.reporting.words import amount, clock, sentence
from sgt_jax.training.log import RunLog

KINDS = {"exists": 0.53, "count": 0.5, "colour_of": 0.2, "left_right": 0.5, "quadrant": 0.25, "shape_of": 0.35}


def invented_pictures(rng, n: int, size: int = 32):
    """Photos of a disc, masks of it, and worse masks: uint8 [size, size, 3] each."""
    y, x = np.mgrid[:size, :size]
    rows = []
    for _ in range(n):
        cx, cy, r = rng.uniform(10, size - 10, 2).tolist() + [rng.uniform(5, 9)]
        inside = (x - cx) ** 2 + (y - cy) ** 2 < r**2
        ground = rng.integers(90, 150) + rng.normal(0, 9, (size, size, 1))
        photo = np.where(inside[..., None], rng.integers(0, 255, 3), ground).clip(0, 255)
        mask = np.where(inside[..., None], [230, 60, 60], [0, 0, 0])
        painted = (mask + rng.normal(0, 25, mask.shape)).clip(0, 255)
        rows.append([a.astype(np.uint8) for a in np.broadcast_arrays(photo, mask, painted)])
    return rows


def invented_run(workdir, steps: int = 300) -> dict:
    """Logs a run into `workdir` and returns its results."""
    rng = np.random.default_rng(0)
    with RunLog(workdir, steps, stream=io.StringIO()) as log:
        for step in range(1, steps + 1):
            done = step / steps
            ce, mse = 2.5 * np.exp(-4 * done) + 0.6, 1.2 * np.exp(-6 * done) + 0.25
            noise = rng.normal(0, 0.06, 6)
            values = {
                "loss": ce + mse + noise[0],
                "ce": ce + noise[1],
                "mse": mse + noise[2] / 3,
                "grad_norm": np.exp(noise[3] * 6 - done),
                "lr": 0.015 * min(1, step / 30) * min(1, 2.5 * (1.001 - done)),
                "tokens_per_second": 21000 + 9000 * noise[4],
                "fill/und": 0.93,
                "fill/vit": 0.97,
                "fill/gen": 0.9 + 0.1 * noise[5],
                "fill/labels": 0.8,
                "data_wait": abs(0.02 * noise[5]),
            }
            values["loss"] = np.nan if step == 77 else values["loss"]
            log.scalars(step, values)
            if step % 50 == 0 or step == 1:
                log.scalars(step, {f"answers/{k}": v + (0.95 - v) * done for k, v in KINDS.items()}, "eval")
                log.scalars(step, {"masks/mIoU": 0.1 + 0.7 * done**2, "masks/PQ": 0.6 * done**2}, "eval")
                log.scalars(step, {"held_out/ce": ce + 0.1}, "eval")
    return invented_results(rng, steps)


def invented_results(rng, steps: int) -> dict:
    kinds = rng.choice(list(KINDS), 1600)
    right = {"exists": 0.66, "count": 0.99, "colour_of": 0.77, "left_right": 0.9, "quadrant": 0.93, "shape_of": 0.36}
    after = ["yes" if rng.random() < right[k] else "no" for k in kinds]
    before = ["yes" if rng.random() < 0.05 else "?" for _ in kinds]
    # The majority answer is right as often as the kind's rate says.
    answers = [["yes", "other"] if rng.random() < KINDS[k] else "yes" for k in kinds]
    scores = score_answers(after, answers, list(kinds), dict.fromkeys(KINDS, "other"), before=before)

    def around(mean, sd, n=512):
        return rng.normal(mean, sd, n).clip(0, 1)

    for name, values in {"mask mIoU": (0.79, 0.09, 0.31, 0.98), "mask PQ": (0.74, 0.02, 0.2, 0.97)}.items():
        scores.append(
            statistics.compare(
                "segmentation",
                name,
                around(values[0], 0.15),
                before=around(values[1], 0.05),
                baseline=around(values[2], 0.1),
                ceiling=around(values[3], 0.02),
                baseline_name="best constant mask",
                ceiling_name="VAE ceiling",
                items="held-out pictures",
            )
        )
    for name, values in {"colours right": (0.77, 0.01, 0.9), "colour and shape right": (0.01, 0.0, 0.75)}.items():
        scores.append(
            statistics.compare(
                "text to picture",
                name,
                rng.random(256) < values[0],
                before=rng.random(256) < values[1],
                ceiling=rng.random(256) < values[2],
                ceiling_name="VAE ceiling",
                items="held-out prompts",
                unit="%",
            )
        )
    nats = {"unit": "nats", "lower_is_better": True, "items": "held-out tokens"}
    scores.append(
        statistics.compare("loss", "cross entropy", rng.gamma(2, 0.4, 900), before=rng.gamma(9, 0.5, 900), **nats)
    )
    prompts = ["a red circle", "a large blue square left of a small green triangle on grey", "two yellow stars"] * 4
    return {
        "title": "Nano: Semantic Generative Tuning on two CPU cores",
        "run": {
            "command": "python -m sgt_jax.main --config=configs/nano.py --workdir=/tmp/nano",
            "started": "2025-11-23 11:20",
            "steps": steps,
            "weights": "EMA (decay 0.99)",
            "parameters": {"autoencoder": 730_000, "vision encoder": 240_123, "decoder, understanding": 890_440},
            "hardware": {"device": "2 × cpu", "processor": "x86_64, 2 cores", "memory": "24 GB"},
            "versions": {"sgt_jax": "0.1.0", "jax": "0.10.2", "python": "3.11.14"},
            "seconds": {
                "start and compile": 31.0,
                "first evaluation": 14.0,
                "training": 231.0,
                "waiting for data": 0.7,
                "evaluations": 25.5,
                "report": 3.0,
            },
            "data_wait": 0.003,
        },
        "scores": scores,
        "pictures": [
            {
                "title": "Masks it paints",
                "caption": "Held-out photos, never trained on.",
                "columns": ["photo", "target", "painted"],
                "rows": invented_pictures(rng, 8),
            },
            {
                "title": "Pictures it draws",
                "columns": ["untrained", "trained"],
                "captions": prompts[:8],
                "rows": [[row[2], row[0]] for row in invented_pictures(rng, 7)]
                + [[None, invented_pictures(rng, 1)[0][0]]],
            },
        ],
        "data": {
            "mixture": [
                {"source": "segmentation", "wanted": 0.25, "samples": 7200, "tokens": 330_000, "loss_weight": 0.31},
                {"source": "questions", "wanted": 0.5, "samples": 14_400, "tokens": 801_000, "loss_weight": 0.42},
                {"source": "text to picture", "wanted": 0.25, "samples": 7200, "tokens": 260_000, "loss_weight": 0.27},
            ],
            "lanes": [
                {"lane": "und", "budget": 192, "fill": 0.93},
                {"lane": "vit", "budget": 64, "fill": 0.97},
                {"lane": "gen", "budget": 64, "fill": 0.9},
                {"lane": "labels", "budget": 64, "fill": 0.8},
            ],
        },
        "notes": ["One seed. Shapes in drawn pictures are still being learnt at this length."],
        "config": {"seed": 0, "total_steps": steps, "model": {"width": 128, "layers": 4}, "text": "<b>&"},
    }


class Page(html.parser.HTMLParser):
    """Collects what the tests ask about and insists on balanced tags."""

    VOID = {"meta", "link", "img", "br", "hr", "input"}

    def __init__(self, text: str):
        super().__init__()
        self.open, self.ids, self.tags, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        self.ids += [attrs["id"]] if "id" in attrs else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    run_page.write_report(folder, invented_run(folder))
    return folder


@pytest.fixture(scope="module")
def page(workdir):
    return Page((workdir / "report.html").read_text())


def test_page_is_well_formed_and_asks_nobody_for_anything(workdir, page):
    text = (workdir / "report.html").read_text()
    assert not re.search(r"https?:|//[a-z]|@import|<script|url\((?!#)", re.sub(r"base64,[^\"]*", "", text))
    sources = [a["src"] for t, a in page.tags if t == "img"]
    assert len(sources) == 8 * 3 + 8 * 2 - 1 and all(s.startswith("data:image/png;base64,") for s in sources)
    assert len(page.ids) == len(set(page.ids))
    inner = [v[1:] for _, a in page.tags for k, v in a.items() if k in ("href", "xlink:href") and v.startswith("#")]
    inner += re.findall(r"url\(#([^)]*)\)", text)
    assert inner and set(inner) <= set(page.ids)
    assert len(text) < 1_500_000


def test_page_can_be_used_without_seeing_it(page):
    assert all(a.get("alt") for t, a in page.tags if t == "img")
    assert all(a.get("aria-label") or a.get("aria-hidden") for t, a in page.tags if t == "svg")
    assert all(a.get("scope") for t, a in page.tags if t == "th")
    levels = [int(t[1]) for t, _ in page.tags if re.fullmatch(r"h[1-6]", t)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:]))
    assert dict(page.tags)["html"]["lang"] == "en"


def test_headlines_are_the_successes_and_errors_are_only_in_the_tables(page):
    words = " ".join(" ".join(page.words).split())
    before = words[: words.index("What it paints")]
    assert before.index("segmentation · mask mIoU") < before.index("understanding · answer accuracy")
    assert "· mask PQ" not in before and "· cross entropy" not in before
    assert "cross entropy" in words[words.index("All scores on held-out data") :]
    assert [a["class"] for t, a in page.tags if t == "section" and "claim" in a.get("class", "")] == [
        "claim is-better"
    ] * 3


def test_it_begins_with_one_sentence_and_one_figure_and_tables_are_folded(page):
    tags = [tag for tag, _ in page.tags]
    first = tags.index("header") + 1
    assert tags[first : first + 3] == ["h1", "figure", "svg"] and "svg" not in tags[:first]
    sentence = next(words for words in page.words if words.startswith("Better: mask PQ rose from 0.031 to 0.742"))
    assert len(sentence.split()) <= 30
    depth, outside = 0, 0  # of tables that are neither folded nor sheets of pictures
    for tag, attributes in page.tags:
        depth += tag == "details"  # none is inside another, and all stand at the end
        outside += tag == "table" and not depth and "sheet" not in attributes.get("class", "")
    assert depth == 4 and not outside


def test_before_and_after_stand_side_by_side(tmp_path):
    """The first evaluation's paintings are kept, in their own column, and a page of one evaluation has no such column."""
    grey = [[np.full((8, 8, 3), value, np.uint8) for value in (1, 2, 3)]]
    first, last = (
        Result({"miou": [0.5]}, ("condition", "target", "prediction"), rows, painted=(2,)) for rows in (grey, grey)
    )
    workdir, evaluators = epath.Path(tmp_path), {"masks": {"type": "masks"}}
    for step, result in ((0, first), (9, last)):
        items.save_first_pictures(workdir, step, "masks", result)
        items.save_items(workdir, step, "masks", result)
        (block,) = run_results._pictures(evaluators, {"masks": result}, workdir, None)
        columns = ["condition", "target", *(["before", "after"] if step else ["prediction"])]
        assert block["columns"] == columns and len(block["rows"][0]) == len(columns)
    assert block["rows"][0][2] == "pictures/first/masks_00_2.png" and (workdir / block["rows"][0][2]).exists()


def test_page_says_what_it_should(workdir, page):
    words = " ".join(" ".join(page.words).split())
    results = json.loads((workdir / "results.json").read_text())
    for s in map(statistics.Score.from_dict, results["scores"]):
        assert " ".join(amount(s.after.value, s.unit).split()) in words
        assert (s.kind or s.name).replace("_", " ") in words
    headlines = [next(s for s in results["scores"] if s["group"] == g) for g in ("understanding", "segmentation")]
    for s in map(statistics.Score.from_dict, headlines):
        assert " ".join(sentence(s).split()) in words
    for text in (
        "EMA (decay 0.99)",
        "python -m sgt_jax.main --config=configs/nano.py",
        "Tokens per second",
        "Cross entropy",
        "two yellow stars",
        "5 min 05 s",
        "waited for data 0.3 %",
        '"text": "<b>&"',  # escaped, so it comes back as text
        "One seed.",
        "segmentation",
        "labels",
        "0.10.2",
    ):
        assert text in words, text


def test_results_hold_every_score_with_n_interval_and_baseline(workdir):
    text = (workdir / "results.json").read_text()
    results = json.loads(text, parse_constant=lambda x: pytest.fail(f"{x} is not JSON"))
    assert results["interval_level"] == 0.95
    assert len(results["scores"]) == 1 + len(KINDS) + 2 + 2 + 1
    for s in results["scores"]:
        assert set(s["after"]) == {"value", "n", "low", "high", "method"}
        assert s["after"]["low"] <= s["after"]["value"] <= s["after"]["high"] and s["after"]["n"] >= 200
        assert s["before"]["n"] == s["after"]["n"]
        assert (s["baseline"] is not None) == (s["group"] in ("understanding", "segmentation"))
    assert all((workdir / p).exists() for row in results["pictures"][0]["rows"] for p in row)
    assert results["pictures"][1]["rows"][-1][0] is None


def test_report_is_rebuilt_from_files_alone(workdir):
    first = (workdir / "report.html").read_text()
    (workdir / "report.html").unlink()
    assert run_page.build_report(workdir) == workdir / "report.html"
    assert (workdir / "report.html").read_text() == first


def test_parts_that_are_missing_are_left_out(tmp_path):
    """A run on one's own photographs may have no scores; a broken one may have no metrics."""
    path = run_page.write_report(tmp_path, {"title": "Little", "config": {"a": np.float32("nan"), "b": np.arange(2)}})
    page = Page(path.read_text())
    assert "Nothing was scored (no evaluation came to its end)." in page.words
    assert "All scores on held-out data" not in page.words and not [t for t, _ in page.tags if t == "img"]
    assert json.loads((tmp_path / "results.json").read_text())["config"] == {"a": None, "b": [0, 1]}


def test_no_results_is_one_clear_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="no results to report"):
        run_page.build_report(tmp_path)


def test_the_terminal_table_has_headlines_before_after_and_change():
    right, wrong = [1] * 80 + [0] * 20, [1] * 40 + [0] * 60
    scores = [
        statistics.compare("understanding", "answers", right, before=wrong, baseline=wrong, unit="%"),
        statistics.compare("understanding", "answers", right, before=wrong, kind="count", unit="%"),
        statistics.compare("segmentation", "mIoU", [0.5] * 10),
    ]
    head, answers, masks = run_page.plain_table(scores).splitlines()
    assert re.sub("  +", "|", head) == "held-out score, 95 % intervals|before|after|change|trivial"
    assert re.match(r"answers, % \(n = 100\) +40\.0 +80\.0 \[71\.\d, 86\.\d\] +\+40\.0 \[.*\] +40\.0$", answers)
    assert re.match(r"mIoU \(n = 10\) +0\.500 \[0\.500, 0\.500\]$", masks) and masks.index("0.500") > head.index(
        "before"
    )


def test_sentence_says_better_worse_or_neither():
    rng = np.random.default_rng(0)
    low, high = rng.normal(0.3, 0.1, 200), rng.normal(0.6, 0.1, 200)
    noisy = high + rng.normal(0, 0.01, 200)

    def words(after, baseline, **kw):
        score = statistics.compare("g", "x", after, baseline=baseline, baseline_name="rule", **kw)
        return " ".join(sentence(score).split())

    assert "better than the rule at 0.3" in words(high, low)
    assert "worse than the rule at 0.59" in words(low, high)
    assert "not distinguishable from the rule" in words(high, noisy)
    assert "worse than the rule" in words(high, low, lower_is_better=True)
    assert "on 200 held-out items" in words(high, low)


@pytest.mark.parametrize("value,text", [(3, "3 s"), (303, "5 min 03 s"), (7801, "2 h 10 min"), (59.6, "1 min 00 s")])
def test_clock(value, text):
    assert clock(value) == text
