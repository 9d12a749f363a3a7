"""Generative proxies: from an example to (condition, instruction, target).

A proxy is one small function, decorated with its name, its level and what it needs, in a module with its closest
relatives. To add one, list its module in the import below and its wordings in `sgt_jax.data.text.templates`; then every
config, task and report can use it. `python -m sgt_jax proxies` lists them all; docs/proxies.md shows them.
"""

from sgt_jax.data.proxies import (
    depth,
    detection,
    edges,
    inpainting,
    jigsaw,
    normals,
    reconstruction,
    referring,
    restoration,
    segmentation,
    stereo,
)
from sgt_jax.data.proxies.registry import PROXIES, Painted, Proxy, make_pair, register

__all__ = [
    "PROXIES",
    "Painted",
    "Proxy",
    "depth",
    "detection",
    "edges",
    "inpainting",
    "jigsaw",
    "make_pair",
    "normals",
    "reconstruction",
    "referring",
    "register",
    "restoration",
    "segmentation",
    "stereo",
]
