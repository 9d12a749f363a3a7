"""The mechanism page from planted files: what was planted is said, faults are named, and nothing else is needed."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest
from etils import epath
from PIL import Image

from sgt_jax.__main__ import main
from sgt_jax.analysis.alignment import prediction
from sgt_jax.analysis.mechanism import page as mechanism_page
from sgt_jax.errors import DataError

OPTIONS = {"checkpoint": "/somewhere/tuned", "before": "/somewhere/base"}
PROXIES = ("segmentation", "depth", "edges", "reconstruction")


def estimate(value, half=0.02):
    return dict(value=value, n=60, low=value - half, high=value + half, method="bootstrap")


def probe():
    def entry(accuracy):
        return dict(
            accuracy=estimate(accuracy), auc=0.7, separable=accuracy > 0.7, trivial=False, fisher=0.1, silhouette=0.05
        )

    pair = dict(pair="square or diamond", classes=["square", "diamond"], n=60)
    before, after = {"vit": entry(0.55), "layer 0": entry(0.6)}, {"vit": entry(0.555), "layer 0": entry(0.75)}
    change = {"vit": estimate(0.005), "layer 0": estimate(0.15)}
    return {
        "analysis": "probe",
        "options": OPTIONS,
        "pairs": [dict(pair, before=before, checkpoint=after, change=change)],
    }


def attention():
    def side(shares):
        more = dict(object=estimate(0.2), head=0, entropy=2.0, words=0.1, markers=0.1)
        layers = [dict(more, layer=n, share=estimate(s), head_share=s) for n, s in enumerate(shares)]
        cells = dict(layers=layers)
        return dict(answer=cells, question=cells, even_entropy=2.7, object_area=0.149, rank=None)

    def painter(**more):
        shares = {"object": 0.3, "colour": 0.2, "position": 0.1, "other": 0.4} | more
        rest = dict(layers=[0, 1], times=[1.0], by_layer_and_time=[], rank=None)
        keys = dict(words=0.067, markers=0.1, latents=0.8)
        categories = {c: estimate(v) for c, v in shares.items()}
        return dict(rest, categories=categories, per_token=shares, all_keys=keys, tokens=dict.fromkeys(shares, 9))

    change = [estimate(0.01), estimate(-0.31)]
    moved = dict(answer=change, question=change)
    understanding = dict(before=side([0.3, 0.5]), checkpoint=side([0.31, 0.35]), change=moved)
    understanding["object_change"] = dict(answer=[estimate(0.03), estimate(0.04)], question=[None, None])
    generation = dict(before=painter(), checkpoint=painter(object=0.25, position=0.25, other=0.3))
    return dict(analysis="attention", options=OPTIONS, understanding=understanding, generation=generation)


def align(scores=(3.0, 2.0, 1.0, 0.5), proxies=PROXIES):
    found = {
        name: dict(cosine=estimate(s / 4, 0.1), projected=s / 4, components=9, effective_dimension=4.0, score=s,
                   per_example=0.0, reliability=[0.9, 0.8]) for name, s in zip(proxies, scores, strict=True)
    }  # fmt: skip
    # After tuning it is another matter; the page must not read that.
    after = {name: dict(entry, score=-9.0) for name, entry in found.items()}
    return dict(
        analysis="align",
        options=OPTIONS,
        place="the pre-attention norm of layer 0",
        n=96,
        before=found,
        checkpoint=after,
    )


@pytest.fixture
def folder(tmp_path):
    for content in (probe(), attention(), align(), dict(probe(), analysis="embed")):
        (tmp_path / f"{content['analysis']}.json").write_text(json.dumps(content))
    Image.new("RGB", (30, 20)).save(tmp_path / "embed_square_or_diamond.png")
    return tmp_path


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Arms that gain in the order of their alignment, and one that align knows nothing of."""
    from tests.study.test_curves import plant

    right = {"base": 0.4, "sft": 0.4, "segmentation": 0.7, "depth": 0.6, "edges": 0.5, "reconstruction": 0.45}
    return plant("proxies", epath.Path(tmp_path_factory.mktemp("study")), lambda arm, _: right.get(arm, 0.9))


class _Outside(HTMLParser):
    def __init__(self):
        super().__init__()
        self.links, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href") and v and not v.startswith(("data:", "#"))]


def test_the_page_says_what_was_planted_and_stands_alone(folder, study, capsys):
    assert main(["mechanism", str(folder), "--study", str(study)]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "mechanism.html")
    page = (folder / "mechanism.html").read_text()
    parser = _Outside()
    parser.feed(page)
    assert not parser.links and parser.tags.count("svg") == 4 and parser.tags.count("img") == 1
    assert "<h1>One run, so no verdict: the probe of square or diamond, layer 0, changed by +15.0 points (95" in page
    assert "a linear rule changes by +0.5 to +15.0 points (median +7.7)" in page.replace("+7.8", "+7.7")
    assert "changes most in layer 1, by −31.0 (−33.0 to −29.0) %; one run, so no verdict" in page
    # One run: neither ticks nor crosses nor bold cells, but in what is compared with a study's seeds.
    assert "✓" not in page[: page.index('id="align"')] and "✗" not in page[: page.index('id="align"')]
    assert "position words have 10.0\xa0% before and 25.0\xa0% after" in page
    assert "Prediction: Over 4 proxies" in page and ("r = +0.9" in page or "r = +1.0" in page)
    assert "<b>−31.0</b>" not in page and "−31.0" in page and "var(--s2) 50%" in page
    # The paper's numbers beside ours, and two sentences for every figure.
    assert "+20.9" in page and "28.1" in page and "0.80 over 7 skills" in page
    assert page.count("<b>Measured.</b>") == page.count("<b>To read.</b>") == 6
    assert "/somewhere" not in page and "before: base" in page, "a path of the machine is nobody's business"


def test_verdicts_are_over_runs(folder, tmp_path, capsys):
    """Three runs that agree about layer 1 and not about layer 0: intervals over them say so; one differs in its layers."""
    for number, (first, second) in enumerate([(0.05, -0.30), (-0.04, -0.32)]):
        other = tmp_path / f"seed_{number}"
        other.mkdir()
        content = attention()
        content["understanding"]["change"]["answer"] = [estimate(first), estimate(second)]
        (other / "attention.json").write_text(json.dumps(content))
        (other / "probe.json").write_text(json.dumps(probe()))
    assert main(["mechanism", str(folder), "--runs", str(tmp_path / "seed_0"), str(tmp_path / "seed_1")]) == 0
    page = (folder / "mechanism.html").read_text()
    assert "in 1 of the 2 layers the interval of the change over 3 runs excludes zero" in page
    assert "<b>−31.0</b>" in page and "<b>+0.7</b>" not in page and "does better after tuning in 2" in page
    assert "<h1>Better: " in page and "3 runs" in page
    content["understanding"]["change"]["answer"] = [estimate(0.1)]
    (other / "attention.json").write_text(json.dumps(content))
    assert main(["mechanism", str(folder), "--runs", str(other)]) == 1
    assert "attention.json: are not of the same pairs, layers and questions" in capsys.readouterr().err


def test_alignment_before_tuning_is_held_against_gains_of_the_same_proxies(folder, study):
    from sgt_jax.study import tables

    entries = prediction.merged({"x": align()})
    assert {name: entry["score"] for name, entry in entries.items()} == dict(zip(PROXIES, (3.0, 2.0, 1.0, 0.5)))
    gains = prediction.gains(tables.read_results(study), PROXIES)
    assert list(gains) == list(PROXIES)
    assert [e.value for e in gains.values()] == sorted((e.value for e in gains.values()), reverse=True)
    assert gains["segmentation"].value == pytest.approx(0.3, abs=0.08)
    with pytest.raises(DataError, match="needs three arms .* there are depth, edges"):
        prediction.gains(tables.read_results(study), ("depth", "edges", "mae"))


def test_correlations_are_exact_and_honest_about_few_points():
    line = prediction.correlation([1, 2, 3, 4], [10, 20, 30, 40])
    assert line.pearson == pytest.approx(1) and line.spearman == pytest.approx(1)
    assert line.p == pytest.approx(2 / 24)  # the order itself and its reverse, of 24: four points cannot show more
    assert prediction.correlation([1, 2, 3], [5, 5, 5]) == prediction.Correlation(3, 0.0, 0.0, 1.0)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 30))
    many = prediction.correlation(x, y)
    assert many.pearson == pytest.approx(np.corrcoef(x, y)[0, 1]) and many == prediction.correlation(x, y)
    ps = [prediction.correlation(*rng.normal(size=(2, 6))).p for _ in range(60)]
    assert 0.3 < np.mean(ps) < 0.7  # unrelated numbers: p is even
    with pytest.raises(ValueError, match="three pairs"):
        prediction.correlation([1, 2], [1, 2])


def test_an_alignment_with_noise_is_called_so(folder):
    noisy = align()
    for entry in noisy["before"].values():
        entry["reliability"] = [0.9, -0.26]
    (folder / "align.json").write_text(json.dumps(noisy))
    page = mechanism_page.build(folder).read_text()
    assert "mostly noise here" in page and "a cosine of −0.260" in page
    assert "No study was given" in page and "Over 4 proxies" not in page


def test_missing_parts_are_left_out_and_named(folder):
    for name in ("probe", "align", "embed"):
        (folder / f"{name}.json").unlink()
    page = mechanism_page.build(folder).read_text()
    assert "no probe.json: <code>python -m sgt_jax probe" in page and "no align.json" in page
    assert "Where does it look when it answers?" in page and "Which classes can be separated" not in page
    (folder / "attention.json").unlink()
    with pytest.raises(DataError, match="holds none of probe.json"):
        mechanism_page.build(folder)


def test_alignments_may_come_one_file_a_proxy(folder, study, tmp_path):
    files = []
    for name, score in zip(PROXIES, (3.0, 2.0, 1.0, 0.5)):
        files.append(tmp_path / f"align_{name}.json")
        files[-1].write_text(json.dumps(align((score,), (name,))))
    (folder / "align.json").unlink()
    page = mechanism_page.build(folder, study=study, alignments=files).read_text()
    assert "Over 4 proxies" in page and "no align.json" not in page
    with pytest.raises(DataError, match="proxy 'depth' is in another file"):
        prediction.merged({"a": align(), "b": align((1.0,), ("depth",))})
    other = dict(align((1.0,), ("mae",)), place="somewhere else")
    with pytest.raises(DataError, match="different models or places"):
        prediction.merged({"a": align(), "b": other})


@pytest.mark.parametrize("content,words", [
    ("{", "probe.json: cannot be read"),
    (json.dumps({"analysis": "embed"}), "probe.json: was not written by `python -m sgt_jax probe`"),
    (json.dumps(dict(probe(), options={"checkpoint": "x", "before": None})), "probe.json: was made without --before"),
])  # fmt: skip
def test_faulty_files_are_one_line_that_names_them(folder, capsys, content, words):
    (folder / "probe.json").write_text(content)
    assert main(["mechanism", str(folder)]) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and words in error and "\n" not in error
