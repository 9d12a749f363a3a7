"""What the chips can do: memory, peak matmul rate, memory and interconnect bandwidth, from the vendors' data sheets.

Only what a plan, a bench or the MFU line divides by. A device that is not listed has no peak, so nothing is claimed of it.
"""

import dataclasses
import math

from sgt_jax.errors import ConfigError, nearest

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """One accelerator.

    Attributes:
      name: as in a topology ("v5e").
      memory: bytes of HBM that a program can use.
      flops: peak bfloat16 FLOP/s, dense.
      bandwidth: HBM bytes/s.
      link: bytes/s that one chip can send into the interconnect, all links together.
      kinds: `jax.Device.device_kind` of this chip.
    """

    name: str
    memory: float
    flops: float
    bandwidth: float
    link: float
    kinds: tuple[str, ...]

    @property
    def tpu(self) -> bool:
        """Whether it is a TPU, for which a compiler can be had without one."""
        return self.name.startswith("v")


CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v5e", 15.75 * GIB, 197e12, 819e9, 200e9, ("TPU v5 lite", "TPU v5e")),
        Chip("v5p", 95.74 * GIB, 459e12, 2765e9, 600e9, ("TPU v5", "TPU v5p")),
        Chip("v6e", 31.25 * GIB, 918e12, 1640e9, 448e9, ("TPU v6 lite", "TPU v6e")),
        Chip("a100", 79 * GIB, 312e12, 2039e9, 300e9, ("NVIDIA A100-SXM4-80GB",)),
        Chip("h100", 79 * GIB, 989e12, 3350e9, 450e9, ("NVIDIA H100 80GB HBM3",)),
        Chip("h200", 140 * GIB, 989e12, 4800e9, 450e9, ("NVIDIA H200",)),
        Chip("rtx4090", 23.5 * GIB, 165e12, 1008e9, 32e9, ("NVIDIA GeForce RTX 4090",)),
    )
}


def chip_of(device_kind: str) -> Chip | None:
    """The chip that a device says it is, or None."""
    return next((chip for chip in CHIPS.values() if device_kind in chip.kinds), None)


def parse_topology(text: str) -> tuple[Chip, tuple[int, ...]]:
    """ "v5p:2x2x4" -> the chip and the sides of the slice; "h200:8" -> the chip and how many.

    Raises:
      ConfigError: not a topology that can be planned for.
    """
    name, _, shape = text.partition(":")
    tpus = [chip.name for chip in CHIPS.values() if chip.tpu]
    try:
        sides = tuple(int(side) for side in shape.split("x"))
    except ValueError:
        sides = ()
    wanted = 3 if name == "v5p" else 2 if name in tpus else 1
    if name not in CHIPS or len(sides) != wanted or min(sides) < 1:
        near = "" if name in CHIPS else f"{nearest(name, list(CHIPS))} "
        raise ConfigError(
            f"topology '{text}' is not like v5p:2x2x4, v5e:8x8, v6e:4x4 or h200:8; {near}(chips: {', '.join(CHIPS)})"
        )
    return CHIPS[name], sides


def chips_in(sides: tuple[int, ...]) -> int:
    """Chips of a slice; a cloud name such as v5p-16 counts cores instead."""
    return math.prod(sides)
