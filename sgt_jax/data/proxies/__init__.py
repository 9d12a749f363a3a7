"""Generative proxies: from an example to (condition, instruction, target).

A proxy is one small function in a module of its own, decorated with its name and level; add the module to the import
below and wordings to `sgt_jax.data.templates`, and every config, task and report can use it.
"""

from sgt_jax.data.proxies import edges, reconstruction, segmentation
from sgt_jax.data.proxies.registry import PROXIES, Proxy, make_pair, register

__all__ = ["PROXIES", "Proxy", "edges", "make_pair", "reconstruction", "register", "segmentation"]
