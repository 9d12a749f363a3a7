"""The face of a family is real: a family that nothing in sgt_jax mentions trains, resumes, samples and exports through it."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from safetensors.numpy import load_file

from sgt_jax.analysis.separability.features import chosen_layers
from sgt_jax.inference import load
from sgt_jax.models import family
from sgt_jax.models.family import UnsupportedError
from sgt_jax.parallel.partitioning import make_mesh
from sgt_jax.planning.step import plan_step
from sgt_jax.training import loop
from sgt_jax.training.publishing import publish
from sgt_jax.trees import flat
from tests.support import tiny_experiment, toy_family


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr(family, "_registered", dict(family._registered))
    family.register(toy_family.ToyFamily())


def config(steps):
    c = tiny_experiment.config(family="toy", total_steps=steps, freeze=(), cpu_devices=1)
    c.model = ConfigDict(dict(patch=8, remat="none", dtype="float32"))
    c.optimizer.name = "adamw"
    c.data.budgets = ConfigDict({"mix": 160, "labels": 32})
    c.data.rows = 4
    c.evaluate_every = c.checkpoint.every = 2
    return c


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The work directory of a run of three steps, and its final parameters."""
    family.register(toy_family.ToyFamily())
    workdir = tmp_path_factory.mktemp("toy")
    return workdir, jax.device_get(loop.train(config(3), workdir).params)


def test_a_foreign_family_trains_and_resumes_to_the_bit(run, tmp_path):
    fresh = toy_family.Model(toy_family.Config()).init(jax.random.key(0))
    assert all(np.any(np.asarray(x) != y) for x, y in zip(jax.tree.leaves(fresh), jax.tree.leaves(run[1])))
    loop.train(config(2), tmp_path)
    longer = config(3)
    longer.resume = "changed"  # another length is another config
    resumed = loop.train(longer, tmp_path)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(resumed.params), run[1])


def test_a_foreign_family_samples(run):
    model = load.load(run[0], weights="params")
    assert model.family.name == "toy"
    assert len(model.chat([np.zeros((32, 32, 3), np.uint8), "what is it ?"])[0].split()) <= 1
    one, two = model.draw(["a red circle"], seeds=[0, 1], shape=(16, 16))
    assert one.picture.shape == (16, 16, 3) and np.any(one.picture != two.picture)


def test_a_foreign_family_exports(run, tmp_path):
    publish(run[0], tmp_path / "out", weights="params")
    written = load_file(tmp_path / "out" / "toy.safetensors")
    assert written.keys() == flat(run[1]).keys()
    for name, array in flat(run[1]).items():
        np.testing.assert_array_equal(written[name], array)


def test_what_a_family_lacks_is_refused_by_name(run):
    with pytest.raises(UnsupportedError, match="family 'toy' has no analyses"):
        chosen_layers(load.load(run[0], weights="params"))
    with pytest.raises(UnsupportedError, match="family 'toy' has no formulas"):
        plan_step(config(3), make_mesh(config(3).mesh))
    with pytest.raises(UnsupportedError, match="no model family 'toi'; did you mean 'toy'. There are bagel, omnigen2, toy"):
        family.by_name("toi")


def test_a_config_without_the_field_is_bagel():
    assert family.of_config({}).name == family.of_config({"family": ""}).name == "bagel"
