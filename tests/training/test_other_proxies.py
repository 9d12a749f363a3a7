"""The README's `--config.data.mixture.proxy.proxy=NAME`: every proxy that scenes can serve takes the nano config's place."""

import numpy as np
import pytest
from sgt_jax.configs import nano

from sgt_jax.data.proxies import PROXIES
from sgt_jax.errors import DataError
from sgt_jax.training import experiment

# What a procedural scene does not know by itself: the classes' order, a second camera.
LACKING = {"semantic": "needs the option class_names", "stereo_view": "needs a stereo pair"}


def batches(proxy):
    config = nano.get_config()
    config.data.mixture.proxy.proxy = proxy
    config.data.mixture.understanding.weight = config.data.mixture.text_to_image.weight = 0.0
    config.data.sources.train.num, config.data.rows = 32, 1
    if proxy == "colourisation":  # a scene of white objects is grey
        config.data.on_bad = "skip"
    return iter(experiment.build(config).batches())


@pytest.mark.parametrize("proxy", sorted(set(PROXIES) - set(LACKING)))
def test_the_first_batch_supervises_another_picture_than_the_photo(proxy):
    batch, info = next(batches(proxy))
    assert info.samples["proxy"] >= 1
    painted = batch["pixels:32x32"]["pixels"][0, batch["gen"]["picture:32x32"][0, 0]]
    seen = batch["vit"]["patches"][0, :16].reshape(4, 4, 8, 8, 3).transpose(0, 2, 1, 3, 4).reshape(32, 32, 3)
    difference = np.abs(painted.astype(float) - seen).mean()
    assert difference == 0 if proxy == "reconstruction" else difference > 1


@pytest.mark.parametrize("proxy", sorted(LACKING))
def test_what_a_scene_lacks_is_said(proxy):
    with pytest.raises(DataError, match=rf"scenes/train/\d+: .*{LACKING[proxy]}"):
        next(batches(proxy))
