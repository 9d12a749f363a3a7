"""Reads precomputed maps (depth, normals) from a folder beside a data set, paired by the example's name.

    FOLDER/sam_selection/part_1/photo.png      for the example "sam_selection/part_1/photo.jpg"; also
    FOLDER/part_1/photo.png, FOLDER/photo.png  where the leading folders of the name are left out

The longest of these that exists is taken. Formats: .png (16 or 8 bits grey, or RGB), .npy, .npz with one array.
"""

import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, UnidentifiedImageError

from sgt_jax.data.pictures import resizing
from sgt_jax.errors import DataError

SUFFIXES = (".png", ".npy", ".npz")
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm")
ASPECT_TOLERANCE = 0.02
_SMOOTH = Image.Resampling.BILINEAR


def find_map(folder: str | Path, name: str) -> Path:
    """The map of the example `name`.

    Raises:
      DataError: there is none; the message names the path where it was expected.
    """
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", ".", "..")]
    if not parts:
        raise DataError(f"an example without a name has no map in {folder}")
    last = PurePosixPath(parts[-1])
    parts[-1] = last.stem if last.suffix.lower() in PICTURE_SUFFIXES else last.name
    for start in range(len(parts)):
        for suffix in SUFFIXES:
            path = Path(folder, *parts[start:-1], parts[-1] + suffix)
            if path.is_file():
                return path
    raise DataError(
        f"{name}: no map at {Path(folder, *parts)}{{{','.join(SUFFIXES)}}}, nor without its leading folders; compute it, "
        "or set on_bad='skip'"
    )


def read_map(path: Path, hw: tuple[int, int], channels: int) -> np.ndarray:
    """A map as float32 [H, W] (`channels` 1) or [H, W, channels], brought to the size (height, width) by nearest pixels.

    Values are those in the file: grey levels of a PNG, numbers of an array.

    Raises:
      DataError: the file cannot be read, has another number of channels, or another aspect ratio than the photo.
    """
    try:
        values = _numbers(path)
    except (OSError, ValueError, EOFError, SyntaxError, zipfile.BadZipFile, UnidentifiedImageError) as error:
        raise DataError(f"{path}: not a readable map ({error}); compute it again, or set on_bad='skip'") from error
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.ndim != (2 if channels == 1 else 3) or values.shape[2:] not in ((), (channels,)):
        wanted = "[H, W], one number a pixel" if channels == 1 else f"[H, W, {channels}]"
        raise DataError(f"{path}: holds an array {list(values.shape)}; the map must be {wanted}")
    if abs((values.shape[1] / values.shape[0]) / (hw[1] / hw[0]) - 1) > ASPECT_TOLERANCE:
        sizes = f"{values.shape[1]}x{values.shape[0]} and {hw[1]}x{hw[0]}"
        raise DataError(
            f"{path}: the map and the photo differ in shape ({sizes}); it belongs to another photo, or was cropped"
        )
    return resizing.nearest_pixels(values.astype(np.float32), hw)


def _numbers(path: Path) -> np.ndarray:
    if path.suffix == ".png":
        with Image.open(path) as picture:
            # Palettes and alpha are for looking at; a map of numbers has neither.
            return np.asarray(picture if picture.mode[0] in "IFL" else picture.convert("RGB"))
    stored = np.load(path, allow_pickle=False)
    if isinstance(stored, np.ndarray):
        return stored
    with stored:
        if len(stored.files) != 1:
            raise ValueError(f"it holds {len(stored.files)} arrays, must hold one")
        return stored[stored.files[0]]


def filled(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """float32 [H, W, ...] with a smooth guess at unknown pixels; at least one must be known, and those stay as they are.

    Every pixel that lacks a value gets it from the same picture at half the size, where a pixel is the mean of the known
    ones of its four, and so on down to a single pixel.
    """
    if known.all():
        return values.astype(np.float32)
    flat = np.where(known[:, :, None], values.reshape(*known.shape, -1), 0).astype(np.float32)
    height, width = known.shape
    even = ((0, height % 2), (0, width % 2), (0, 0))
    total, count = (
        x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]
        for x in (np.pad(flat, even), np.pad(known[:, :, None].astype(np.float32), even))
    )
    half = filled(total / np.maximum(count, 1), count[:, :, 0] > 0)
    guess = [
        Image.fromarray(np.ascontiguousarray(half[:, :, c])).resize((width, height), _SMOOTH)
        for c in range(flat.shape[2])
    ]
    flat[~known] = np.stack([np.asarray(channel) for channel in guess], axis=2)[~known]
    return flat.reshape(values.shape)
