"""Corruptions of photos, for proxies that ask for the clean photo: pure functions of a picture, a generator and strengths.

Pictures are uint8 [H, W, 3]. Strengths are those of the reference, which used COCO photos. Lengths in pixels are meant for a
picture whose short side is 480 and are scaled to the given picture, so that a large photo is corrupted as visibly as a small
one. Results are rounded and clipped and never wrap around.
"""

import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

REFERENCE_SIDE = 480
RAIN_ANGLE = 60.0  # degrees from the horizontal, leaning to the right
AIRLIGHT = 0.95

Range = Sequence[float]


def to_picture(values: np.ndarray) -> np.ndarray:
    """Float in 0..1 to uint8, rounded and clipped."""
    return (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)


def noisy(image: np.ndarray, rng: np.random.Generator, sigma: Range, quality: Range, photons: Range, salt: Range):
    """Some of Gaussian noise, JPEG artefacts, photon noise, salt and pepper, in a random order; at least one of them.

    Args:
      sigma: standard deviation of the Gaussian noise, of 255.
      quality: of the JPEG.
      photons: per pixel at full brightness.
      salt: share of pixels that turn white or black.
    """

    def gaussian(x):
        return x + rng.normal(0, rng.uniform(*sigma) / 255, x.shape)

    def jpeg(x):
        # The reference wraps values outside [0, 1] around here; to_picture clips them.
        file = io.BytesIO()
        Image.fromarray(to_picture(x)).save(file, "JPEG", quality=int(rng.integers(quality[0], quality[1] + 1)))
        return np.asarray(Image.open(file), np.float64) / 255

    def poisson(x):
        scale = rng.uniform(*photons)
        return rng.poisson(np.clip(x, 0, None) * scale) / scale

    def salt_and_pepper(x):
        x = x.copy()
        count = math.ceil(rng.uniform(*salt) * x.shape[0] * x.shape[1] / 2)
        for value in (1.0, 0.0):
            x[rng.integers(x.shape[0], size=count), rng.integers(x.shape[1], size=count)] = value
        return x

    kinds = ((gaussian, 0.8), (jpeg, 0.5), (poisson, 0.5), (salt_and_pepper, 0.2))
    chosen: list = []
    while not chosen:  # a clean photo would be a lesson in doing nothing
        chosen = [kind for kind, chance in kinds if rng.random() < chance]
    values = image / 255
    for i in rng.permutation(len(chosen)):
        values = chosen[i](values)
    return to_picture(values)


def coarse(image: np.ndarray, factor: int) -> np.ndarray:
    """Bicubic down and up by a whole factor, which must divide both sides."""
    height, width = image.shape[:2]
    if height % factor or width % factor:
        raise ValueError(f"{width}x{height} is not divisible by {factor}")
    small = Image.fromarray(image).resize((width // factor, height // factor), Image.Resampling.BICUBIC)
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def motion_blurred(image: np.ndarray, length: float, angle: float) -> np.ndarray:
    """Blur along a line of `length` reference pixels, at `angle` degrees; at least three pixels long."""
    kernel = line_kernel(max(3.0, length * _unit(image)), angle)
    reach = kernel.shape[0] // 2
    padded = np.pad(image.astype(np.float32), ((reach, reach), (reach, reach), (0, 0)), "reflect")
    # By Fourier transforms: on a large photo the kernel has thousands of weights.
    from scipy import signal  # here: it takes a second, which most commands need not spend

    blurred = signal.oaconvolve(padded, (kernel / kernel.sum())[:, :, None], "valid", axes=(0, 1))
    return np.clip(blurred + 0.5, 0, 255).astype(np.uint8)


def line_kernel(length: float, angle: float) -> np.ndarray:
    """float32 [K, K], K odd: an anti-aliased line of that length through the middle, 1 at its heart."""
    half = max(int(math.ceil(length / 2)), 1)
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    along = x * math.cos(math.radians(angle)) - y * math.sin(math.radians(angle))
    across = x * math.sin(math.radians(angle)) + y * math.cos(math.radians(angle))
    kernel = np.clip(1 - np.abs(across), 0, 1) * np.clip(length / 2 + 0.5 - np.abs(along), 0, 1)
    return kernel.astype(np.float32)


def dark(image: np.ndarray, rng: np.random.Generator, brightness: float, sigma: float) -> np.ndarray:
    """Less light and the noise that comes with it: a factor, and a standard deviation on 0..1."""
    return to_picture(image / 255 * brightness + rng.normal(0, sigma, image.shape))


def rainy(image: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Streaks of rain over a slightly darker photo, more and longer ones the greater the strength (0.4 to 0.8).

    The reference draws drops as random bytes above 254 - int(2 strength), of which there are none at 0.4 and equally
    many at 0.6 and 0.8; here their share is what that rule meant, 2 strength / 255.
    """
    from scipy import ndimage  # here: sampling needs none of it, and it takes 0.4 s

    height, width = image.shape[:2]
    # Rain is drawn on the reference's scale: on a large photo the drops are larger, not more.
    scale = max(_unit(image), 1.0)
    small = (math.ceil(height / scale), math.ceil(width / scale))
    drops = rng.random(small) < 2 * strength / 255
    drops[rng.integers(small[0]), rng.integers(small[1])] = True  # never none at all
    length = (10 + 30 * strength) * min(_unit(image), 1.0)
    kernel = line_kernel(max(3.0, length), RAIN_ANGLE)
    streaks = ndimage.correlate(drops.astype(np.float32), kernel, mode="constant")
    streaks = Image.fromarray(np.minimum(streaks, 1)).resize((width, height), Image.Resampling.BILINEAR)
    return to_picture(0.8 * image / 255 + (0.4 + 0.2 * strength) * np.asarray(streaks)[:, :, None])


def foggy(image: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Fog by the law of scattering, J t + A (1 - t): thick above (far away), thinner below, in faint swathes."""
    height, width = image.shape[:2]
    swathes = Image.fromarray(rng.normal(0, 0.05, (6, 8)).astype(np.float32))
    swathes = np.asarray(swathes.resize((width, height), Image.Resampling.BICUBIC))
    distance = np.clip(np.linspace(0.8, 0.2, height)[:, None] + swathes, 0.1, 1)
    through = np.exp(-(0.5 + 3 * strength) * distance)[:, :, None]
    return to_picture(image / 255 * through + AIRLIGHT * (1 - through))


def holes(hw: tuple[int, int], rng: np.random.Generator, intensity: float) -> np.ndarray:
    """bool [H, W]: free strokes, and often some rectangles; more and larger ones the greater the intensity (0.3 to 0.8)."""
    height, width = hw
    short = min(hw)
    step = max(50 * short / REFERENCE_SIDE, 2)
    canvas = Image.new("1", (width, height))
    draw = ImageDraw.Draw(canvas)
    for _ in range(rng.integers(1, int(3 + 12 * intensity))):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        thickness = int(rng.integers(2, max(3, int(short * (0.02 + 0.1 * intensity)))))
        for _ in range(rng.integers(2, int(4 + 12 * intensity))):
            end = (
                np.clip(x + rng.uniform(-step, step), 0, width - 1),
                np.clip(y + rng.uniform(-step, step), 0, height - 1),
            )
            draw.line((x, y, *end), fill=1, width=thickness)
            r = thickness / 2
            draw.ellipse((x - r, y - r, x + r, y + r), fill=1)
            x, y = end
    if rng.random() < 0.3 + 0.5 * intensity:
        low, high = max(1, int(0.05 * short)), max(2, int(short * (0.1 + 0.4 * intensity)))
        for _ in range(rng.integers(1, int(5 + 10 * intensity))):
            wide, tall = rng.integers(low, max(high, low + 1), 2)
            left, top = rng.integers(0, max(width - wide, 1)), rng.integers(0, max(height - tall, 1))
            draw.rectangle((int(left), int(top), int(left + wide - 1), int(top + tall - 1)), fill=1)
    return np.asarray(canvas, bool)


def patches(hw: tuple[int, int], rng: np.random.Generator, ratio: float, across: int) -> np.ndarray:
    """bool [H, W]: exactly that share of a grid's cells, `across` of them along the short side."""
    cell = max(1, round(min(hw) / across))
    rows, columns = (math.ceil(side / cell) for side in hw)
    chosen = np.zeros(rows * columns, bool)
    chosen[rng.permutation(rows * columns)[: round(ratio * rows * columns)]] = True
    cells = chosen.reshape(rows, columns).repeat(cell, 0).repeat(cell, 1)
    return cells[: hw[0], : hw[1]]


def _unit(image: np.ndarray) -> float:
    """How many pixels of this picture are one of the reference's."""
    return min(image.shape[:2]) / REFERENCE_SIDE
