"""Picture grids, rows of small pictures under titles: what a run learns from and what it paints."""

import io
import textwrap
from collections.abc import Sequence

import numpy as np
from etils import epath
from PIL import Image, ImageDraw, ImageFont

from sgt_jax.data.stored import atomic

_GAP, _MARGIN = 6, 10
_INK, _PAPER, _FRAME = (40, 40, 45), (255, 255, 255), (205, 205, 210)
_CAPTION_WIDTH = 220


def grid(
    rows: Sequence[Sequence[np.ndarray | None]],
    columns: Sequence[str] = (),
    captions: Sequence[str] = (),
    cell: int = 128,
) -> np.ndarray:
    """One picture of all `rows`.

    Arguments:
      rows: rows of uint8 [h, w, 3] pictures of any sizes; None leaves a cell empty. Small ones are enlarged
        by a whole factor, without smoothing.
      columns: a title for each column.
      captions: a text for each row (a prompt, a question), written to its left.
      cell: the size that the longer side of a picture is brought near to.

    Returns:
      uint8 [H, W, 3].

    Raises:
      ValueError: no pictures, or one of another type or shape.
    """
    if not rows or not any(len(row) for row in rows):
        raise ValueError("a picture grid needs at least one picture")
    tiles = [[None if x is None else _tile(x, cell) for x in row] for row in rows]
    count = max(len(row) for row in tiles)
    widths = [max((r[c].width for r in tiles if c < len(r) and r[c]), default=cell) for c in range(count)]
    heights = [max((t.height for t in row if t), default=cell) for row in tiles]
    font = ImageFont.load_default(13)
    titles = [_wrap(columns[c] if c < len(columns) else "", widths[c]) for c in range(count)]
    head = 18 * max((t.count("\n") + 1 for t in titles if t), default=0)
    left = _MARGIN + (_CAPTION_WIDTH + _GAP if captions else 0)
    size = (
        left + sum(widths) + _GAP * (count - 1) + _MARGIN,
        _MARGIN + head + sum(heights) + _GAP * (len(tiles) - 1) + _MARGIN,
    )
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    y = _MARGIN
    x = left
    for title, width in zip(titles, widths):
        draw.multiline_text((x, y - 2), title, _INK, font, spacing=3)
        x += width + _GAP
    y += head
    for number, (row, height) in enumerate(zip(tiles, heights)):
        if number < len(captions):
            draw.multiline_text((_MARGIN, y), _wrap(captions[number], _CAPTION_WIDTH), _INK, font, spacing=3)
        x = left
        for tile, width in zip(row, widths):
            if tile:
                sheet.paste(tile, (x, y))
                draw.rectangle((x - 1, y - 1, x + tile.width, y + tile.height), outline=_FRAME)
            x += width + _GAP
        y += height + _GAP
    return np.asarray(sheet)


def cells(sheet: np.ndarray) -> list[list[np.ndarray]]:
    """The pictures of a sheet that `grid` made, uint8 [h, w, 3] each, row by row; enlarged ones at their own size again.

    They are found by their frames, so empty places are left out.
    """
    from scipy import ndimage  # here: it takes a second, which most commands need not spend

    framed, _ = ndimage.label((sheet == _FRAME).all(-1))
    rows: dict[int, list[tuple[int, np.ndarray]]] = {}
    for y, x in ndimage.find_objects(framed):
        if min(y.stop - y.start, x.stop - x.start) > 8:  # a frame, not a point of its colour
            tile = sheet[y.start + 1 : y.stop - 1, x.start + 1 : x.stop - 1]
            rows.setdefault(y.start, []).append((x.start, _unenlarged(tile)))
    return [[tile for _, tile in sorted(row, key=lambda place: place[0])] for _, row in sorted(rows.items())]


def _unenlarged(picture: np.ndarray) -> np.ndarray:
    """A picture without the whole factor, of 8 at most, by which it was enlarged without smoothing."""
    for factor in range(8, 1, -1):
        if all(size % factor == 0 for size in picture.shape[:2]):
            small = picture[::factor, ::factor]
            if np.array_equal(small.repeat(factor, 0).repeat(factor, 1), picture):
                return small
    return picture


def write_png(path: epath.PathLike, picture: np.ndarray) -> None:
    """Writes uint8 [H, W, 3] as PNG, also to remote paths; whole or not at all."""
    encoded = io.BytesIO()  # Pillow takes a write that a full disk cut short for a whole one
    Image.fromarray(_checked(picture)).save(encoded, format="PNG", optimize=True)
    atomic.write_bytes(path, encoded.getvalue())


def _checked(picture: np.ndarray) -> np.ndarray:
    picture = np.asarray(picture)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[-1] != 3:
        raise ValueError(f"a picture is uint8 [H, W, 3], not {picture.dtype} {list(picture.shape)}")
    return picture


def _tile(picture: np.ndarray, cell: int) -> Image.Image:
    image = Image.fromarray(_checked(picture))
    longest = max(image.size)
    if longest <= cell:
        factor = max(1, cell // longest)
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    image.thumbnail((cell, cell))
    return image


def _wrap(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(text, max(6, width // 7)))
