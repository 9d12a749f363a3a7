"""The README's `--config.data.mixture.proxy.proxy=NAME`: every proxy that scenes can serve takes the nano configs' place,
in both families, and what is supervised is its target.
"""

import numpy as np
import pytest
from sgt_jax.configs import nano, nano_omnigen2

from sgt_jax.data.proxies import PROXIES
from sgt_jax.errors import DataError
from sgt_jax.training import experiment

CONFIGS = {"bagel": nano, "omnigen2": nano_omnigen2}
# What a procedural scene does not know by itself: the classes' order, a second camera.
LACKING = {"semantic": "needs the option class_names", "stereo_view": "needs a stereo pair"}


def batches(proxy, family="bagel"):
    config = CONFIGS[family].get_config()
    config.data.mixture.proxy.proxy = proxy
    config.data.stages = ()
    for name, part in config.data.mixture.items():
        if name != "proxy":
            part.weight = 0.0
    config.data.sources.train.num, config.data.rows = 32, 1
    if proxy == "colourisation":  # a scene of white objects is grey
        config.data.on_bad = "skip"
    return iter(experiment.build(config).batches())


def seen_picture(vit, family):
    """The first picture of lane "vit", put together from its patches."""
    if family == "bagel":
        patches = vit["patches"][0, :16].reshape(4, 4, 8, 8, 3)
    else:  # channels first, and windows of cells instead of rows
        patches = np.zeros((8, 8, 4, 4, 3), np.uint8)
        patches[vit["row"][0, :64], vit["column"][0, :64]] = np.moveaxis(vit["patches"][0, :64].reshape(-1, 3, 4, 4), 1, 3)
    return patches.transpose(0, 2, 1, 3, 4).reshape(32, 32, 3)


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("proxy", sorted(set(PROXIES) - set(LACKING)))
def test_the_first_batch_supervises_another_picture_than_the_photo(proxy, family):
    batch, info = next(batches(proxy, family))
    assert info.samples["proxy"] >= 1
    painted = batch["pixels:32x32"]["pixels"][0, batch["gen"]["picture:32x32"][0, 0]]
    seen = seen_picture(batch["vit"], family)
    difference = np.abs(painted.astype(float) - seen).mean()
    assert difference == 0 if proxy == "reconstruction" else difference > 1


@pytest.mark.parametrize("proxy", sorted(LACKING))
def test_what_a_scene_lacks_is_said(proxy):
    with pytest.raises(DataError, match=rf"scenes/train/\d+: .*{LACKING[proxy]}"):
        next(batches(proxy))
