"""Times our ways to read SAM-SGT samples against the plain way, on the same pictures.

    python -m sgt_jax.timing.data_throughput

The plain way is what the reference does: open photo and mask, convert both to RGB, resize the mask to the photo's size, apply
the encoder's resize to the photo and the autoencoder's to mask and photo, convert all three to float tensors. Ours starts
from the same files (the tree, ingested records, or tokenised targets) and ends with the lanes of a row.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from sgt_jax.configs import bagel_7b_sgt
from sgt_jax.data import tasks
from sgt_jax.data.layouts.bagel import BagelLayout, SpecialTokens
from sgt_jax.data.pictures import reading, resizing
from sgt_jax.data.sources import open_source
from sgt_jax.data.stored import tokenised, tokenising
from sgt_jax.data.stored.ingest import ingest

SIZE = (2250, 1500)
CANVASES = ((688, 1024),)


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    flags = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    flags.add_argument("--photos", type=int, default=12)
    flags.add_argument("--rounds", type=int, default=3, help="the best one counts")
    return flags


def main() -> None:
    """Times all ways and prints a line for each."""
    options = parser().parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_tree(root / "tree", options.photos)
        ways = make_ways(root, options.photos)
        best = dict.fromkeys(ways, np.inf)
        # Round by round, so that whatever else the machine does meets all ways alike.
        for _ in range(options.rounds):
            for name, one in ways.items():
                started = time.process_time()
                for i in range(options.photos):
                    one(i)
                best[name] = min(best[name], time.process_time() - started)
        plain = best["plain"]
        for name, seconds in best.items():
            print(f"{name:28} {options.photos / seconds:8.1f} samples/s and core, {plain / seconds:5.1f} x plain")


def write_tree(root: Path, n: int) -> None:
    """Photos of the size of SA-1B's, made from real ones, with flat-coloured masks."""
    from skimage import data

    rng = np.random.default_rng(0)
    for i in range(n):
        photo = Image.fromarray(getattr(data, ("astronaut", "coffee", "chelsea", "rocket")[i % 4])()).resize(SIZE)
        grain = rng.normal(0, 4, (SIZE[1], SIZE[0], 1))
        photo = Image.fromarray(np.clip(np.asarray(photo) + grain, 0, 255).astype(np.uint8))
        cells = rng.integers(0, 255, (9, 12, 3), np.uint8)
        for folder, ending, picture in (
            ("sam_selection", "jpg", photo),
            ("sam_mask", "png", Image.fromarray(cells).resize(SIZE, Image.Resampling.NEAREST)),
        ):
            path = root / folder / f"sa_{i}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path, quality=92)


def make_ways(root: Path, n: int) -> dict:
    """Name -> function of the number of a photo; each does all the work of one sample on one core."""
    config = bagel_7b_sgt.get_config().data
    part = config.mixture.segmentation
    vit_size, target_size = resizing.ResizeRule(**part.vit_size), resizing.ResizeRule(**config.target_size)
    vit_spec = resizing.ResizeRule(*(part.vit_size[k] for k in ("stride", "min_size", "max_size")))
    vae_spec = resizing.ResizeRule(*(config.target_size[k] for k in ("stride", "min_size", "max_size")))
    ids = SpecialTokens(1, 2, 3, 4)

    def plain(i: int) -> None:
        photo = reading.load_rgb(root / "tree/sam_selection" / f"sa_{i}.jpg")
        mask = reading.load_rgb(root / "tree/sam_mask" / f"sa_{i}.png")
        mask = resizing.resize(mask, (photo.shape[1], photo.shape[0]))
        for picture, spec in ((photo, vit_spec), (mask, vae_spec), (photo, vae_spec)):
            resizing.transform(picture, spec)

    def encode(text: str) -> list[int]:
        return list(text.encode())

    def ours(source, layout: BagelLayout, canvases) -> object:
        task = tasks.Proxy("segmentation", encode, vit_size, canvases, {})

        def one(i: int) -> None:
            sample = task(source[i], np.random.default_rng(i))
            layout.lay_out(sample.plan, name=sample.name)

        return one

    tree = open_source(dict(type="sam_sgt", root=str(root / "tree")))
    ingest(dict(type="sam_sgt", root=str(root / "tree")), root / "records")
    records = open_source(dict(type="records", root=str(root / "records")))
    make = tasks.Proxy("segmentation", encode, vit_size, target_size, {})

    def stand_in(pixels: np.ndarray) -> np.ndarray:
        # What is stored is as large as the autoencoder's moments and as hard to compress; its values do not matter here.
        shape = (len(pixels), pixels.shape[1] // 8, pixels.shape[2] // 8, 32)
        return np.random.default_rng(0).standard_normal(shape).astype(np.float16)

    ready = []
    for i in range(n):
        example = records[i]
        ready.append(tokenising.prepared(make(example, np.random.default_rng(i)), example))
    tokenised.begin(root / "tokenised", {"parts": 1})
    tokenised.write_part(root / "tokenised", 0, tokenising.encoded(ready, stand_in, 1))
    common = dict(tokens=ids, vit_patch=14, vit_side=70, latent_stride=16, latent_side=64)
    pixels = BagelLayout(**common, canvases=CANVASES)
    moments = BagelLayout(**common, moment_width=128)
    return {
        "plain": plain,
        "ours, tree": ours(tree, pixels, CANVASES),
        "ours, records": ours(records, pixels, CANVASES),
        "ours, tokenised": ours(tokenised.Tokenised(root / "tokenised"), moments, ()),
    }


if __name__ == "__main__":
    main()
