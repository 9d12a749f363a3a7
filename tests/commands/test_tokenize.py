"""`python -m sgt_jax tokenize`: targets are encoded once, and training on them is training on pixels."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sgt_jax.configs import bagel_7b_sgt

from sgt_jax.commands import tokenize
from sgt_jax.data.packing import pack
from sgt_jax.data.stored.tokenised import Tokenised
from sgt_jax.data.stored.tokenising import Encoding
from sgt_jax.errors import DataError
from sgt_jax.models.bagel.published import load_published
from sgt_jax.models.layers import patchify_latents
from sgt_jax.training import experiment
from sgt_jax.training.objectives import sgt
from sgt_jax.training.subject import RunSubject
from tests.support import local_road

CONFIG = str(Path(bagel_7b_sgt.__file__))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The toy files, with segmentation alone in the mixture, tokenised into place/tokenised."""
    root = tmp_path_factory.mktemp("road")
    local_road.checkpoint(root / "BAGEL-local")
    local_road.sam_sgt(root / "SAM-SGT", lost=0)
    assert tokenize.main(arguments(root)) == 0
    return root


def changes(root):
    return {
        "init_from": root / "BAGEL-local",
        "data.tokenizer": root / "BAGEL-local",
        "data.sources.sam.root": root / "SAM-SGT",
        "data.mixture.segmentation.tokenised": root / "tokenised",
        "data.mixture.understanding.weight": 0.0,
    }


def arguments(root, variant="local", **more):
    found = [f"--config={CONFIG}:{variant}", "--part-size=4", "--batch=2", "--threads=2"]
    found += [f"--config.{name}={value}" for name, value in {**changes(root), **more}.items()]
    return [*found, "--config.data.sources.sam.type=sam_sgt", "--config.data.sources.sam.skip=0"]


def config(root, variant="local"):
    c = bagel_7b_sgt.get_config(variant)
    found = dict(changes(root))
    if "pixels" in variant:
        del found["data.mixture.segmentation.tokenised"]
    c.update_from_flattened_dict({name: str(v) if isinstance(v, Path) else v for name, v in found.items()})
    c.data.sources = dict(sam=dict(type="sam_sgt", root=str(root / "SAM-SGT")))
    del c.data.mixture.understanding
    return c


def batch_of(task, settings):
    """One row with two given records, one of each shape, undropped, and their names."""
    part = task.components()[0]
    laid = []
    for i in (0, len(part.source) - 1):
        sample = part.task(part.source[i], np.random.default_rng(i))
        laid.append(task.layout.lay_out(sample.plan, name=sample.name))
    row = pack(laid, task.layout.spec, settings.data.budgets)
    return jax.tree.map(lambda x: x[None], row)


def test_the_loss_on_tokenised_targets_is_the_loss_on_pixels(place):
    tokenised, pixels = config(place), config(place, "local+pixels")
    # The same sizes on both roads: what the resize rule makes of the toy photos.
    pixels.data.canvases = ((80, 128), (128, 80))
    pixels.data.budgets = dict(tokenised.data.budgets, **{f"pixels:{h}x{w}": 1 for h, w in pixels.data.canvases})
    one, two = experiment.build(tokenised), experiment.build(pixels)
    stored, shown = batch_of(one, tokenised), batch_of(two, pixels)
    assert "moments" in stored["gen"] and not any(lane.startswith("pixels") for lane in stored)
    for lane in ("und", "vit"):
        for field in stored[lane]:
            np.testing.assert_array_equal(stored[lane][field], shown[lane][field])

    params = load_published(place / "BAGEL-local", one.model_config).params
    draws = two.model.draw(jax.random.key(1), shown)
    # The posterior noise of each canvas, brought to the slots that its picture takes.
    moments = np.zeros((*stored["gen"]["sample"].shape, one.model_config.latent_width), np.float32)
    for name, noise in draws["vae"].items():
        tokens = np.asarray(patchify_latents(noise[0], 2))
        picture, token = shown["gen"]["picture:" + name][0], shown["gen"]["token"][0]
        moments[0, picture >= 0] = tokens[picture[picture >= 0], token[picture >= 0]]
    same = dict(draws, vae={"moments": jnp.asarray(moments)})

    @jax.jit
    def loss(batch, draws):
        return sgt.sgt_objective(one.model.forward(params, batch, draws), batch, tokenised.objective)[0]

    a, b = float(loss(stored, same)), float(loss(shown, draws))
    assert a > 0.1 and abs(a - b) < 1e-3 * b, (a, b)
    other = dict(same, vae={"moments": jnp.asarray(moments) + 1})
    assert abs(float(loss(stored, other)) - b) > 1e-2 * b  # the latent is sampled in the step


def test_every_record_is_there_in_order_at_its_own_size(place):
    source, photos = Tokenised(place / "tokenised"), experiment.build(config(place)).source("sam")
    assert len(source) == len(photos) == len(local_road.PHOTOS)
    for i, photo in enumerate(photos):
        example, record = source[i], source.record(i)
        assert example.name == photo.name
        assert example.moments[0].dtype == np.float16
        assert example.moments[0].shape == ((10, 16, 8) if photo.image.shape[1] == 225 else (16, 10, 8))
        assert max(example.image.shape) == 56 and record.preview and "instruction" in record.extra
    assert source.settings["records"] == 7 and source.settings["parts"] == 2


def test_interrupted_work_is_taken_up_and_shared(place, capsys):
    root = place / "again"
    again = {"data.mixture.segmentation.tokenised": root}
    assert tokenize.main([*arguments(place, **again), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "7 records at" in said and "in 2 parts" in said and "0 % are there" in said and "128x80 (" in said
    assert not root.exists()
    assert tokenize.main([*arguments(place, **again), "--share=1/2"]) == 0
    assert "1 parts still to be made" in capsys.readouterr().out
    with pytest.raises(DataError, match="1 of 2 parts are missing.*tokenize` again"):
        Tokenised(root)
    made = (root / "part-00001.array_record").stat().st_mtime_ns
    assert tokenize.main(arguments(place, **again)) == 0
    assert (root / "part-00001.array_record").stat().st_mtime_ns == made
    whole, pieces = Tokenised(place / "tokenised"), Tokenised(root)
    assert [whole.record(i) for i in range(7)] == [pieces.record(i) for i in range(7)]


def test_what_was_made_for_another_run_is_refused(place, capsys):
    assert tokenize.main(arguments(place, **{"data.target_size.max_size": 96})) == 1
    error = capsys.readouterr().err
    assert "tokenised differently: target_size" in error.splitlines()[-1] and error.count("error: ") == 1
    for change, name in (({"max_size": 96}, "target_size"), ({"min_size": 42}, "vit_size")):
        other = config(place)
        (other.data.target_size if name == "target_size" else other.data.mixture.segmentation.vit_size).update(change)
        with pytest.raises(DataError, match=f"was made for another run: {name}"):
            experiment.build(other).components()
    settings = json.loads((place / "tokenised" / "settings.json").read_text())
    copy = place / "other_vae"
    copy.mkdir()
    (copy / "settings.json").write_text(json.dumps(settings | {"autoencoder": "0" * 16}))
    for file in (place / "tokenised").glob("part-*"):
        (copy / file.name).write_bytes(file.read_bytes())
    other = config(place)
    other.data.mixture.segmentation.tokenised = str(copy)
    with pytest.raises(DataError, match="was made for another run: autoencoder"):
        experiment.build(other).components()


def test_pixels_and_moments_do_not_mix(place):
    mixed = config(place)
    mixed.data.mixture.drawing = dict(source="sam", task="proxy", proxy="reconstruction", weight=1.0)
    mixed.data.canvases = ((80, 128),)
    mixed.data.on_bad = "error"
    with pytest.raises(DataError, match="comes as pixels, this run takes moments; tokenise all parts"):
        next(iter(experiment.build(mixed).batches()))


def test_held_out_records_are_encoded_as_tokenize_would(place):
    """A run whose targets are tokenised has a held-out loss, too: the few records are encoded when they are read."""
    task = experiment.build(config(place))
    subject = RunSubject(task)
    stored, held_out = (
        Tokenised(place / "tokenised"),
        Encoding(task.source("sam"), task.mixture, "segmentation", subject._encode),
    )
    for i in (0, 3):
        np.testing.assert_allclose(held_out[i].moments[0], stored[i].moments[0], atol=2e-3)
        np.testing.assert_array_equal(held_out[i].image, stored[i].image)
    (batch,) = subject.held_out_batches({"segmentation": "sam"}, 1)
    assert np.abs(batch["gen"]["moments"]).max() > 0
    with pytest.raises(DataError, match="need a source for part 'segmentation'"):
        subject.held_out_batches({"understanding": "sam"}, 1)
