"""`sample` on a tiny published folder: every mode, seeds and batches, think mode, output sizes, one-line errors."""

import dataclasses
import functools
import json

import jax
import numpy as np
import pytest
from PIL import Image
from sgt_jax.configs import nano, nano_sgt

from sgt_jax.commands import bench_sampling, sample
from sgt_jax.data.examples import PlanItem
from sgt_jax.data.pictures import rle
from sgt_jax.data.text.tokenizer import NANO_FILE
from sgt_jax.errors import DataError
from sgt_jax.inference import buckets, load, requests, results
from sgt_jax.models import family as families
from sgt_jax.models.bagel import guidance
from sgt_jax.models.bagel.config import BagelConfig
from sgt_jax.models.bagel.export import export_published
from sgt_jax.models.bagel.family import FAMILY
from sgt_jax.models.bagel.guidance import Guidance, Settings
from sgt_jax.models.bagel.model import Bagel
from sgt_jax.training import config_file
from tests.support import hostile_files, paths
from tests.support import tiny_experiment as tiny

PHOTO = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A published folder with random weights: larger than fresh ones, and none zero, so that every input matters."""
    config = BagelConfig.from_dict(tiny.config().model.to_dict())
    params = Bagel(config).init(jax.random.key(0))
    noise = functools.partial(jax.random.normal, jax.random.key(1))
    params["llm2vae"] = jax.tree.map(lambda x: x + 0.3 * noise(x.shape), params["llm2vae"])
    params["decoder"] = jax.tree.map(lambda x: x * 8 if x.ndim == 2 else x, params["decoder"])
    out = tmp_path_factory.mktemp("published") / "tiny"
    export_published(params, config, out, extra_files=[NANO_FILE])
    return out


@pytest.fixture(scope="module")
def model(folder):
    return load.load(folder)


@pytest.fixture(scope="module")
def quick(model):
    """Three steps under text guidance."""
    return Settings(steps=3, guidance=Guidance(2.0), vit=model.defaults["t2i"].vit)


# Not bagel_7b_sgt: it samples with the reference's interval of guidance, which evaluators have no field for.
@pytest.mark.parametrize("name", ["nano", "study/first_bed", "nano_pretrain"])
def test_a_config_samples_as_it_is_scored(name):
    """Runs from before there was a section `sampling` sampled as their evaluators did, and so do new ones."""
    settings = json.loads(config_file.load(f"{paths.REPOSITORY}/configs/{name}.py").to_json_best_effort())
    old = {key: value for key, value in settings.items() if key != "sampling"}
    family = families.of_config(settings)
    assert load.defaults_of_run(family, settings) == load.defaults_of_run(family, old)
    proxy = settings["data"]["mixture"].get("proxy", {})
    assert load._palette_of_run(settings, proxy) == load._palette_of_run(old, proxy)


def test_a_run_paints_as_its_config_says_whatever_scores_it():
    settings = nano_sgt.get_config().to_dict() | {"evaluators": {}}
    family = families.of_config(settings)

    def painted():
        found = load.defaults_of_run(family, settings)
        return {mode: (s.steps, s.shift, s.guidance) for mode, s in found.items() if mode != "chat"}

    scales = dict(t2i=(8, 2.0, 3.0), edit=(8, 2.0, 1.5), segment=(4, 2.0, 1.0))
    assert painted() == {mode: (steps, shift, Guidance(scale)) for mode, (steps, shift, scale) in scales.items()}
    settings["sampling"]["edit"] |= {
        "steps": 5,
        "guidance": {"text_scale": 2.0, "image_scale": 1.5, "renorm": "channel"},
    }
    assert painted()["edit"] == (5, 2.0, Guidance(2.0, 1.5, renorm="channel"))


@pytest.fixture
def photo(tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


def run(folder, *arguments):
    return sample.main(["--checkpoint", str(folder), *map(str, arguments)])


def test_history_keeps_the_order_of_the_command_line():
    options = sample.parser().parse_intermixed_args(
        ["chat", "--text", "a", "--image", "b", "--text", "c", "d", "--checkpoint", "e"]
    )
    assert options.history == [("text", "a"), ("image", "b"), ("text", "c"), ("text", "d")]
    assert sample.parser().parse_intermixed_args(["chat", "--checkpoint", "e"]).history == []


def test_pictures_are_read_as_viewers_show_them(tmp_path):
    (tmp_path / "phone.jpg").write_bytes(hostile_files.rotated_jpeg())
    words = ["chat", "--image", str(tmp_path / "phone.jpg"), "what ?", "--checkpoint", "e"]
    (upright, text), (stored, _) = (
        sample._history(sample.parser().parse_intermixed_args([*words, *more])) for more in ([], ["--no-upright"])
    )
    assert text == "what ?" and upright.shape == (24, 16, 3) and stored.shape == (16, 24, 3)
    assert upright[2, 8, 0] < 20 and upright[21, 8, 0] > 235  # black above, white below


def test_command_chat_writes_to_stdout(folder, photo, capsys):
    assert run(folder, "chat", "--image", photo, "what is this ?", "--max-new-tokens", 3) == 0
    assert capsys.readouterr().out.count("\n") == 1


def test_command_segment_writes_picture_labels_and_instances(folder, photo, tmp_path):
    out = tmp_path / "parts.png"
    assert run(folder, "segment", "--image", photo, "--out", out, "--steps", 2, "--palette", "distinct") == 0
    labels = np.asarray(Image.open(tmp_path / "parts_labels.png"))
    document = json.loads((tmp_path / "parts.json").read_text())
    assert labels.shape == PHOTO.shape[:2] and document["size"] == list(PHOTO.shape[:2])
    assert len(document["instances"]) == labels.max()
    for entry in document["instances"]:
        mask = rle.decode(entry["segmentation"])
        np.testing.assert_array_equal(mask, labels == entry["label"])
        x, y, w, h = entry["bbox"]
        assert mask.sum() == entry["area"] == mask[y : y + h, x : x + w].sum()
    # The painting has the aspect of the photo, in whole latent tokens (8 pixels) of a model of 32 pixels a side.
    assert Image.open(out).size == (32, 24)


def test_instances_are_decoded_at_the_size_of_the_photo(model, monkeypatch):
    painting = np.zeros((24, 32, 3), np.uint8)
    painting[4:20, 4:12] = (255, 0, 0)
    painting[4:20, 16:20] = (0, 255, 0)
    monkeypatch.setattr(model, "paint", lambda *a, **k: [results.Painting(painting)])
    (found,) = model.segment(np.zeros((48, 64, 3), np.uint8), palette="distinct")
    assert [m.sum() for m in found.masks] == [32 * 16, 32 * 8]
    assert [entry["bbox"] for entry in found.to_json()["instances"]] == [[8, 8, 16, 32], [32, 8, 8, 32]]


def test_a_run_is_read_back_in_the_colours_that_it_paints_in():
    settings = nano.get_config().to_dict()
    assert load._palette_of_run(settings, settings["data"]["mixture"]["proxy"]) == "distinct"
    assert load._palette_of_run(settings, {"options": {"palette": "tab20"}}) == "tab20"
    assert load._palette_of_run(settings | {"evaluators": {}}, {}) == "distinct"
    assert load._palette_of_run(settings | {"sampling": {"palette": ""}}, {}) is None
    assert load._palette_of_run({}, {}) is None


def test_a_picture_does_not_depend_on_its_batch_and_needs_its_seed(model, quick):
    together = model.edit([PHOTO, "copy the picture"], seeds=[3, 4], settings=quick)
    alone = model.edit([PHOTO, "copy the picture"], seeds=[4], settings=quick)[0].picture
    other = together[0].picture.astype(int)
    # Another batch size is another compiled program: the last bit of a float may differ, and so a rounding.
    assert np.abs(together[1].picture.astype(int) - alone).max() <= 1
    assert np.abs(other - alone).max() > 20


def test_guidance_and_pictures_and_texts_change_the_painting(model, quick):
    def paint(history, mode="edit", **options):
        return model.paint(history, mode, **{"settings": quick, **options})[0].picture.astype(int)

    base = paint([PHOTO, "red square"])
    unguided = Settings(steps=3, vit=quick.vit)
    assert np.abs(paint([PHOTO, "blue circle"]) - base).max() > 1
    assert np.abs(paint([255 - PHOTO, "red square"]) - base).max() > 1
    assert np.abs(paint([PHOTO, "red square"], settings=unguided) - base).max() > 1


@pytest.mark.slow  # 13 s; test_engine.py has the engine that does it
def test_different_requests_in_one_batch_are_as_each_alone(model, quick):
    prompts = ["a red circle", "two blue squares and a green triangle"]
    wanted = [requests.Request([text], "t2i", seed, (16, 16), quick) for seed, text in enumerate(prompts)]
    wanted.insert(1, requests.Request(["a red circle"], "t2i", 0, (16, 8), quick))  # another size, so another batch
    together = [painting.picture for painting in requests.paint(model, wanted)]
    assert [x.shape for x in together] == [(16, 16, 3), (16, 8, 3), (16, 16, 3)]
    for request, found in zip(wanted, together, strict=True):
        alone = model.draw(request.history, seeds=[request.seed], shape=request.shape, settings=quick)[0].picture
        assert np.abs(alone.astype(int) - found).max() <= 1
    assert np.abs(together[0].astype(int) - together[2]).max() > 1


def test_outside_its_interval_guidance_costs_and_changes_nothing(model, quick):
    never = dataclasses.replace(quick, guidance=Guidance(2.0, low=0.5, high=0.5))
    off = dataclasses.replace(quick, guidance=Guidance(1.0))
    late = dataclasses.replace(quick, guidance=Guidance(2.0, low=0.0, high=0.9))  # all steps but the first
    plain, found, some, full = (
        model.draw(["a red circle"], shape=(16, 16), settings=s)[0].picture.astype(int)
        for s in (off, never, late, quick)
    )
    assert np.abs(plain - found).max() <= 1
    assert np.abs(plain - some).max() > 1 and np.abs(full - some).max() > 1


def test_questions_of_different_lengths_share_a_program(model):
    sampler = model.sampler(())
    before = sampler._write._cache_size()
    for words in (1, 9, 30):
        model.chat(["blue " * words], max_new_tokens=3)
    assert sampler._write._cache_size() == before + 1


@pytest.mark.parametrize("length", [0, 1, 64, 65, 80, 81, 127, 129, 1000, 16_385])
def test_buckets_hold_and_waste_a_quarter_at_most(length):
    found = buckets.bucket(length)
    assert length <= found <= max(buckets.SMALLEST, length * 1.25) if length else found == 0
    assert found % 16 == 0 and buckets.bucket(found) == found


def test_command_batch_paints_every_line(folder, tmp_path, capsys):
    (tmp_path / "prompts.txt").write_text("a red circle\n\na blue square\n")
    common = ["t2i", "--checkpoint", str(folder), "--batch", str(tmp_path / "prompts.txt"), "--size", "16x16"]
    assert sample.main([*common, "--steps", "3", "--text-scale", "2", "--out", str(tmp_path / "x.png")]) == 0
    first, second = (np.asarray(Image.open(tmp_path / f"x_{n}.png")) for n in range(2))
    assert first.shape == (16, 16, 3) and (first != second).any()
    (tmp_path / "prompts.txt").write_text("\n")
    assert sample.main(common) == 1 and "holds no prompt" in capsys.readouterr().err


def test_branches_of_one_picture_see_the_same_draw_of_its_posterior(model, quick):
    """Without a last text the no-text branch has read what the main one has: guidance must change nothing."""
    unguided = Settings(steps=3, vit=quick.vit)
    guided = model.edit([PHOTO], seeds=[1], settings=quick)[0].picture.astype(int)
    assert np.abs(guided - model.edit([PHOTO], seeds=[1], settings=unguided)[0].picture).max() <= 1


def test_text_stops_row_by_row_and_ids_are_reproducible(model):
    plans = [[PlanItem("text", model.tokenizer.encode(t))] for t in ("red", "what is this ?", "paint each object")]
    sampler = model.sampler(())
    many = sampler.answer_ids(model.params, plans, max_new_tokens=6, batch=4)
    for plan, ids in zip(plans, many):
        assert sampler.answer_ids(model.params, [plan], max_new_tokens=6, batch=4) == [ids]
    warm = [
        sampler.answer_ids(model.params, plans, max_new_tokens=6, batch=4, temperature=2.0, seeds=seeds)
        for seeds in ((1, 2, 3), (1, 2, 3), (4, 5, 6))
    ]
    assert warm[0] == warm[1] != warm[2]
    assert all(len(ids) <= 6 and model.tokenizer.eos not in ids for ids in many + warm[2])


def test_thought_goes_to_the_main_branch_only():
    image, text = PlanItem("vit_image", PHOTO), PlanItem("text", [1, 2])
    branches = guidance.branch_plans([image, text], [7])
    assert [item.data for item in branches["main"][1:]] == [[1, 2], [7]]
    assert branches["text"] == [image] and branches["image"] == [text]


def test_defaults_are_those_of_the_reference():
    t2i, edit, segment = (FAMILY.defaults[mode] for mode in ("t2i", "edit", "segment"))
    assert (t2i.steps, t2i.shift) == (49, 3.0)
    assert t2i.guidance == Guidance(4.0, 1.0, 0.4, 1.0, "global") == segment.guidance
    assert edit.guidance == Guidance(4.0, 2.0, 0.0, 1.0, "text_channel")


def test_sizes_are_floored_and_checked(model):
    assert model._output_shape(["x"], (17, 31)) == (16, 24)
    assert model._output_shape([np.zeros((40, 20, 3), np.uint8), "x"], None) == (32, 16)
    with pytest.raises(DataError, match="8 to 32 pixels"):
        model._output_shape(["x"], (64, 8))


@pytest.mark.parametrize(
    "arguments,words",
    (
        (["chat"], "nothing to read"),
        (["edit", "darker"], "edit wants"),
        (["segment", "red"], "exactly one --image"),
        (["t2i", "red", "--size", "12"], "WIDTHxHEIGHT"),
        (["t2i", "red", "--size", "640x640"], "8 to 32 pixels"),
        (["t2i", "red", "--out", "/nowhere/x.png"], "no such folder"),
        (["t2i", "red", "--image-scale", "2", "--text-scale", "1"], "text guidance"),
        (["chat", "--image", "nothing.png"], "no such picture"),
    ),
)
def test_errors_are_one_line(folder, capsys, arguments, words):
    assert run(folder, *arguments) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(errors) == 1 and errors[0].startswith("error: ") and words in errors[0]


def test_folders_that_are_no_checkpoints(tmp_path, folder, capsys):
    assert run(tmp_path / "none", "chat", "red") == 1
    assert run(tmp_path, "chat", "red") == 1
    (tmp_path / "checkpoints").mkdir()
    assert run(tmp_path, "chat", "red") == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("loading")]
    assert len(lines) == 3 and all(line.startswith("error: ") for line in lines)


def test_bench_compares_two_ways_that_agree(folder, capsys):
    few = ["--tokens", "4", "--batch", "2", "--steps", "2", "--repeats", "1", "--json"]
    assert bench_sampling.main(["--checkpoint", str(folder), *few]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 2 and all(row["equal"] and row["factor"] > 0 for row in rows)
