"""Pictures and messages that clients of a server send."""

import base64
import io

import numpy as np
from PIL import Image


def photo(seed: int = 0, side: int = 32) -> np.ndarray:
    """A picture uint8 [side, side, 3] of coarse blocks of colour."""
    blocks = np.random.default_rng(seed).integers(0, 256, (side // 8, side // 8, 3), np.uint8)
    return np.kron(blocks, np.ones((8, 8, 1), np.uint8))


def png(picture: np.ndarray) -> bytes:
    """A picture's file."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return out.getvalue()


def data_uri(picture: np.ndarray) -> str:
    """A picture as clients send it."""
    return "data:image/png;base64," + base64.b64encode(png(picture)).decode()


def message(*parts) -> list[dict]:
    """One user message of texts and pictures."""
    texts = [{"type": "text", "text": part} if isinstance(part, str)
             else {"type": "image_url", "image_url": {"url": data_uri(part)}} for part in parts]  # fmt: skip
    return [{"role": "user", "content": texts}]


def unpacked(b64: str) -> Image.Image:
    """The picture in a reply."""
    return Image.open(io.BytesIO(base64.b64decode(b64)))
