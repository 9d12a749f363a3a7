"""Measures how full the rows of the 7B recipe are: python -m sgt_jax.timing.packing

Packs empty samples of real lengths (sgt_jax/assets/real_lengths.json) with the row iterator that training uses.
"""

import argparse
from collections import Counter
from collections.abc import Mapping

import numpy as np

from sgt_jax.data.packing import Field
from sgt_jax.data.pipeline import LaidOut, RowDataset
from sgt_jax.timing import lengths

SPEC = {lane: {"sample": Field("int8")} for lane in ("und", "gen", "vit", "labels")}
DECODER = ("und", "gen")


class _Stream:
    """The model's samples as a row's stream; those above a budget are skips, as the pipeline makes them."""

    def __init__(self, n: int, budgets: Mapping[str, int], seed: int) -> None:
        self._items = []
        for kind, need in lengths.mixed(n, seed):
            fits = all(slots <= budgets[lane] for lane, slots in need.items())
            lanes = {lane: {"sample": np.ones(slots, np.int8)} for lane, slots in need.items() if slots}
            self._items.append(LaidOut(kind, kind, lanes if fits else None, "above a budget"))

    def __getitem__(self, i: int | slice) -> "_Stream | LaidOut":
        if isinstance(i, slice):
            assert i == slice(0, None), "a fresh row starts at the beginning"
            return self
        return self._items[i]

    def to_iter_dataset(self, options: object) -> list[LaidOut]:
        del options
        return self._items


def measure(budgets: Mapping[str, int], pool_size: int, rows: int = 300, seed: int = 0) -> dict[str, float]:
    """Real slots per slot of each lane and of the decoder, samples per row, and the share of records that were skipped."""
    needed = rows * sum(budgets[lane] for lane in DECODER) // 2_000 + 10 * pool_size
    # No row is skipped for good: the packer logs each record that exceeds a budget, here some in ten thousand.
    iterator = iter(RowDataset([_Stream(needed, budgets, seed)], SPEC, budgets, pool_size, read_threads=0))
    real, samples, skipped = Counter(), Counter(), Counter()
    for _ in range(rows):
        lanes, taken, skips = next(iterator)
        real.update({lane: int(fields["sample"].sum()) for lane, fields in lanes.items()})
        samples.update(item.component for item in taken)
        skipped.update(skips)
    fill = {lane: real[lane] / (rows * budgets[lane]) for lane in SPEC}
    fill["decoder"] = sum(real[lane] for lane in DECODER) / (rows * sum(budgets[lane] for lane in DECODER))
    total = sum(samples.values())
    return fill | {
        "samples": total / rows,
        "ratio": samples["segmentation"] / samples["understanding"],
        "skipped": sum(skipped.values()) / (total + sum(skipped.values())),
    }


def parser() -> argparse.ArgumentParser:
    """The options of the command: none."""
    return argparse.ArgumentParser(description=__doc__.partition(":")[0])


def main() -> None:
    """Prints a line for each row budget and pool size."""
    parser().parse_args()
    from sgt_jax.configs import bagel_7b_sgt

    print(f"{'':36} decoder   und   gen   vit labels  samples/row  ratio  skipped")
    for name in ("", "32k"):
        own = dict(bagel_7b_sgt.get_config(name).data.budgets)
        cases = [(f"{name or '16k'}, pool {pool}", own, pool) for pool in (8, 16, 48, 96)]
        for change in (-512, 512):
            moved = dict(own, und=own["und"] + change, gen=own["gen"] - change)
            cases.append((f"{name or '16k'}, pool 48, {change:+} und, {-change:+} gen", moved, 48))
        for label, budgets, pool in cases:
            found = measure(budgets, pool)
            fills = "  ".join(f"{100 * found[lane]:4.1f}" for lane in ("decoder", "und", "gen", "vit", "labels"))
            print(
                f"{label:36}  {fills}  {found['samples']:11.2f}  {found['ratio']:.2f}  {100 * found['skipped']:.2f} %"
            )


if __name__ == "__main__":
    main()
