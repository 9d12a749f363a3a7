"""The four analysis commands on a tiny published folder: what they write, and what the numbers are."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgt_jax.__main__ import main
from sgt_jax.analysis import batches
from sgt_jax.analysis import questions as analysis_questions
from sgt_jax.analysis.attention import answering, painting, words
from sgt_jax.analysis.separability import pairs
from sgt_jax.batch import TokenInfo, may_attend
from sgt_jax.commands import options
from sgt_jax.data import tasks
from sgt_jax.data.text.tokenizer import NANO_FILE, Tokenizer
from sgt_jax.errors import DataError
from sgt_jax.inference import load
from sgt_jax.models.bagel.config import BagelConfig
from sgt_jax.models.bagel.export import export_published
from sgt_jax.models.bagel.model import Bagel
from tests.support import tiny_bagel, tiny_experiment


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two published folders whose weights differ in the decoder."""
    config = BagelConfig.from_dict(tiny_experiment.config().model.to_dict())
    out = tmp_path_factory.mktemp("published")
    for name, seed in (("after", 0), ("before", 1)):
        params = tiny_bagel.random_params(config)
        params["decoder"] = tiny_bagel.random_params(config, seed)["decoder"]
        export_published(params, config, out / name, extra_files=[NANO_FILE])
    return out


@pytest.fixture(scope="module")
def attention(folders, tmp_path_factory):
    """What `attention` wrote about both folders: (json, arrays, folder)."""
    out = tmp_path_factory.mktemp("attention")
    both = ["--checkpoint", str(folders / "after"), "--before", str(folders / "before")]
    few = ["--n", "5", "--steps", "2", "--batch", "4", "--ranked", "1", "--out", str(out)]
    assert main(["attention", *both, *few]) == 0
    return json.loads((out / "attention.json").read_text()), dict(np.load(out / "attention.npz")), out


def test_attention_on_the_picture_is_that_of_a_dense_softmax(folders, attention):
    """The command's numbers for one question, from a forward of that question alone, in float64; 1e-6 as promised."""
    arrays, which = attention[1], 3
    model = load.load(folders / "after")
    question = analysis_questions.questions(pairs.open_source(pairs.HELD_OUT), 5)[which]
    sample = tasks.Understanding(model.tokenizer.encode, batches.vit_size(model))(question.example, None)
    ((batch, _),) = batches.batches([sample.plan], model.layout(()), 1)
    out = jax.jit(lambda p, b: model.model.forward(p, b, model.model.draw(jax.random.key(0), b), ("q_0", "k_0")))(
        model.params, batch
    )
    info, und = TokenInfo.of(batch["und"]), batch["und"]
    q, k = (np.asarray(out[name][0], np.float64) for name in ("q_0", "k_0"))
    scores = np.einsum("qhd,thd->hqt", q, np.repeat(k, q.shape[1] // k.shape[1], axis=1)) / np.sqrt(q.shape[2])
    weights = np.where(may_attend(info, info)[0], np.exp(scores), 0)
    weights /= np.maximum(weights.sum(-1, keepdims=True), 1e-300)
    picture = und["vit"][0] >= 0
    # [picture][bos question eos][bos answer eos]: the answer is predicted from its bos and all its words.
    asked, answer = (len(item.data) for item in sample.plan[-2:])
    start = int(picture.sum()) + 2
    questions, answers = np.arange(start + 1, start + 1 + asked), start + 2 + asked + np.arange(answer + 1)
    for number, queries in ((0, answers), (1, questions)):
        expected = weights[:, queries][..., picture].sum(-1).mean(1)
        found = arrays["understanding/checkpoint/mass"][which, 0, number, :, answering.KEYS.index("picture")]
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_shares_cover_everything_once(attention):
    found, arrays, out = attention
    mass = arrays["understanding/checkpoint/mass"]
    np.testing.assert_allclose(mass[..., :3].sum(-1), 1, atol=1e-5)
    known = np.isfinite(mass[..., 3])
    assert known.any() and (mass[..., 3][known] <= mass[..., 0][known] + 1e-6).all()
    painted = arrays["generation/checkpoint/mass"]
    assert painted.shape[:3] == (5, 2, 1) and painted.shape[-1] == len(painting.KEYS)
    np.testing.assert_allclose(painted.sum(-1), 1, atol=1e-5)
    shares = [c["value"] for c in found["generation"]["checkpoint"]["categories"].values()]
    assert sum(shares) == pytest.approx(1)
    change = found["understanding"]["change"]["answer"][0]
    before, after = (arrays[f"understanding/{w}/mass"][:, 0, 0, :, 0].mean() for w in ("before", "checkpoint"))
    assert change["value"] == pytest.approx(after / before - 1) and change["value"] != 0
    objects = [found["understanding"][w]["answer"]["layers"][0]["object"]["value"] for w in ("checkpoint", "before")]
    moved = found["understanding"]["object_change"]["answer"][0]
    assert moved["value"] == pytest.approx(objects[0] - objects[1]) and moved["low"] < moved["value"] < moved["high"]
    for name in ("attention_understanding", "attention_words", "attention_words_over_time"):
        assert (out / f"{name}.png").stat().st_size > 5000


def test_probe_and_embed_write_the_same_scores_again(folders, tmp_path, capsys):
    few = ["--checkpoint", str(folders / "after"), "--n", "16", "--out", str(tmp_path)]
    classes = ["--classes", "circle", "square", "--source", "type=scenes,max_objects=1"]
    assert main(["probe", *few, *classes]) == 0
    assert "circle or square: 32 pictures" in capsys.readouterr().out
    assert main(["embed", *few, *classes, "--perplexity", "5", "--features", "vit"]) == 0
    probed, embedded = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("probe", "embed"))
    (probed,), (embedded,) = probed["pairs"], embedded["pairs"]
    assert list(probed["checkpoint"]) == ["vit", "connector", "layer 0"]
    assert embedded["checkpoint"] == {"vit": probed["checkpoint"]["vit"]}
    assert np.load(tmp_path / "embed.npz")["checkpoint/circle or square/vit"].shape == (32, 2)
    assert (tmp_path / "embed_circle_or_square.png").stat().st_size > 5000


def test_align_compares_proxies_with_understanding(folders, tmp_path, monkeypatch):
    # Compiling the autoencoder would be most of this test's time, and what it encodes does not matter here.
    monkeypatch.setattr(Bagel, "clean_latents", lambda self, params, batch, draws: jnp.zeros(draws["noise"].shape))
    few = ["--checkpoint", str(folders / "after"), "--n", "6", "--batch", "6", "--out", str(tmp_path)]
    assert main(["align", *few, "--proxies", "segmentation"]) == 0
    found = json.loads((tmp_path / "align.json").read_text())["checkpoint"]
    assert list(found) == ["segmentation"] and -1 <= found["segmentation"]["cosine"]["value"] <= 1
    assert np.load(tmp_path / "align.npz")["checkpoint/understanding"].shape == (32,)
    assert (tmp_path / "align.png").stat().st_size > 5000


@pytest.mark.parametrize("arguments,words", [
    (["probe", "--pair", "nowhere", "nowhere"], "no such folder"),
    (["probe", "--source", "type=folder,root=nowhere"], "--classes A B"),
    (["attention", "--source", "type=nothing"], "no type 'nothing'; there are ade20k"),
    (["attention", "--source", "held_out"], "is not the config of a run"),
    (["probe", "--source", "type=scenes,num=40"], "of 'left' where 150 are wanted; lower --n"),
    (["attention", "--layers", "7"], "no decoder layer 7"),
    (["attention", "generation", "--prompts", "nowhere.jsonl"], "cannot be read"),
    (["align", "--proxies", "nothing"], "no proxy 'nothing'"),
    (["align", "--n", "2"], "at least 4"),
])  # fmt: skip
def test_errors_are_one_line(folders, tmp_path, capsys, arguments, words):
    assert main([arguments[0], "--checkpoint", str(folders / "after"), "--out", str(tmp_path), *arguments[1:]]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(errors) == 1 and errors[0].startswith("error: ") and words in errors[0]


def test_a_source_by_its_name_in_the_run(tmp_path):
    spec = dict(type="scenes", size=48)
    (tmp_path / "config.json").write_text(json.dumps(dict(data=dict(sources=dict(held_out=spec)))))
    assert options.named_source(str(tmp_path), "held_out") == spec
    with pytest.raises(DataError, match="has no source 'asked'; there are held_out"):
        options.named_source(str(tmp_path), "asked")


def test_words_of_a_prompt_by_category(tmp_path):
    text = "a photo of a red circle left of a blue square"
    found = words.categorised(text, ["circle", "square"], Tokenizer.nano())
    expected = "other other other other colour object position position other colour object".split()
    assert [words.CATEGORIES[c] for c in found.categories] == expected
    plural = words.categorised("two circles and an orange", ["circle", "orange"], Tokenizer.nano())
    assert [words.CATEGORIES[c] for c in plural.categories] == ["other", "object", "other", "other", "object"]
    (tmp_path / "p.jsonl").write_text(json.dumps({"prompt": text, "include": [{"class": "circle"}]}) + "\n\nnothing\n")
    with pytest.raises(DataError, match=r"p\.jsonl:3: needs"):
        words.read_prompts(tmp_path / "p.jsonl")
