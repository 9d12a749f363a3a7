"""The sections of a folder of numbers recorded from OmniGen2's reference; tests/golden/omnigen2/README.md describes it."""

import os
from collections.abc import Callable, Iterator, Mapping

from sgt_jax.parity.checks import Check
from sgt_jax.parity.omnigen2.answers import sft
from sgt_jax.parity.omnigen2.flow import loss
from sgt_jax.parity.omnigen2.folder import Folder
from sgt_jax.parity.omnigen2.mllm import mllm
from sgt_jax.parity.omnigen2.pipeline import pipeline
from sgt_jax.parity.omnigen2.tables import tables
from sgt_jax.parity.omnigen2.training import joint_step, train_loop
from sgt_jax.parity.omnigen2.transformer import transformer, wide
from sgt_jax.parity.omnigen2.vae import vae

Section = Callable[[Folder], Iterator[Check]]


def _missing(section: str) -> Section:
    """A section that nothing of ours can be compared with yet: it fails by name."""

    def refuse(folder: Folder) -> Iterator[Check]:
        del folder
        yield Check(section, "(all)", float("inf"), 0.0, False, "this section is not compared yet")

    return refuse


SECTIONS: Mapping[str, tuple[tuple[str, ...], Section]] = {
    "transformer": (("transformer.npz", "transformer", "lora"), transformer),
    "wide": (("wide.npz",), wide),
    "vae": (("vae.npz", "vae"), vae),
    "mllm": (("mllm.npz", "mllm"), mllm),
    "loss": (("loss.npz", "transformer"), loss),
    "sft": (("sft.npz", "mllm"), sft),
    "joint_step": (("joint_step.npz", "mllm", "transformer"), joint_step),
    "train_loop": (("train_loop.npz", "mllm", "transformer"), train_loop),
    "pipeline": (("pipeline.npz", "mllm", "transformer", "vae"), pipeline),
    "tables": (("tables.npz",), tables),
}
open_folder = Folder


def recognises(folder: str | os.PathLike) -> bool:
    """Whether a folder was recorded from this family: it holds a recorded part and the folder of its weights."""
    parts = ("transformer", "mllm", "vae")
    return any(
        os.path.isdir(os.path.join(folder, part)) and os.path.exists(os.path.join(folder, part + ".npz"))
        for part in parts
    )
