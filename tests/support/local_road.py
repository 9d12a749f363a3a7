"""The files that configs/bagel_7b_sgt.py:local expects, with toy content in the true layouts:
python -m tests.support.local_road DIR

DIR/checkpoints/BAGEL-local   a published folder of an untrained toy model
DIR/data/SAM-SGT              photos, coloured masks, index; one photo has no mask
DIR/data/LLaVA-OneVision-SGT  what the reference's download script writes: a JSON list and pictures
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sgt_jax.configs import bagel_7b_sgt

# (width, height): landscape and portrait; their targets get sizes of their own.
PHOTOS = ((225, 150), (225, 150), (225, 150), (150, 225), (225, 150), (150, 225), (225, 150))
LLAVA = "data/LLaVA-OneVision-SGT/llava_onevision_balanced_500k"


def make(root: Path) -> None:
    """Writes everything below `root`."""
    checkpoint(root / "checkpoints/BAGEL-local")
    sam_sgt(root / "data/SAM-SGT")
    llava(root / LLAVA)


def checkpoint(folder: Path) -> None:
    """An untrained model of the local variant's sizes in the published layout, with the nano tokenizer."""
    import jax

    from sgt_jax.data.text.tokenizer import NANO_FILE
    from sgt_jax.models.bagel.config import BagelConfig
    from sgt_jax.models.bagel.export import export_published
    from sgt_jax.models.bagel.model import Bagel

    config = BagelConfig.from_dict(bagel_7b_sgt.get_config("local").model.to_dict())
    rng = np.random.default_rng(0)

    def drawn(path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        # Without JAX's own initialisers, which would be compiled for this alone.
        if len(leaf.shape) < 2:
            return np.full(leaf.shape, float(jax.tree_util.keystr(path).endswith("'scale']")), np.float32)
        return (rng.standard_normal(leaf.shape) * np.prod(leaf.shape[-2:-1]) ** -0.5).astype(np.float32)

    params = jax.tree_util.tree_map_with_path(drawn, jax.eval_shape(Bagel(config).init, jax.random.key(0)))
    folder.parent.mkdir(parents=True, exist_ok=True)
    export_published(params, config, folder, extra_files=[NANO_FILE])


def sam_sgt(root: Path, lost: int = 1) -> None:
    """Photos of noise with two bright blocks, and masks that colour the blocks; the last `lost` have no mask."""
    lines = []
    for i, (width, height) in enumerate(PHOTOS):
        rng = np.random.default_rng(i)
        photo = rng.integers(0, 90, (height, width, 3), np.uint8)
        mask = np.zeros((height, width, 3), np.uint8)
        for k, colour in enumerate(((31, 119, 180), (255, 127, 14))):
            top, left = int(rng.integers(0, height // 2)), k * width // 2
            block = np.s_[top : top + height // 3, left : left + width // 3]
            photo[block] += 120
            mask[block] = colour
        name = f"part_{i % 2}/sa_{i}"
        for folder, ending, picture in (("sam_selection", ".jpg", photo), ("sam_mask", ".png", mask)):
            if folder == "sam_mask" and i >= len(PHOTOS) - lost:
                continue
            path = root / folder / (name + ending)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
        lines.append(f"sam_selection/{name}.jpg")
    (root / "file_names").mkdir(parents=True)
    (root / "file_names" / "sam_190k_new.txt").write_text("\n".join(lines) + "\n")


def llava(root: Path, n: int = 8) -> None:
    """Questions about flat pictures, in the words of the nano tokenizer; every fourth record has no picture."""
    records = []
    for i in range(n):
        picture = None
        if i % 4 != 3:
            picture = f"General/dots/dots_{i}.jpg"
            path = root / "images" / picture
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (90 + 10 * (i % 3), 70), ((40 * i) % 256, 90, 120)).save(path, quality=95)
        turns = []
        for turn in range(1 + i % 2):
            question = "what colour is the circle ?" if turn else "is there a red square ?"
            turns.append({"from": "human", "value": ("<image>\n" if picture and not turn else "") + question})
            turns.append({"from": "gpt", "value": "blue" if turn else "no"})
        records.append(
            {"id": str(i), "category": "General", "dataset": "dots", "image": picture, "conversations": turns}
        )
    (root / "annotations").mkdir(parents=True)
    (root / "annotations" / "all_data.json").write_text(json.dumps(records, indent=2))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
