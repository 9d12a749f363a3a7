"""One layer's attention, forward and backward, by each backend on the same pack: `python -m sgt_jax.timing.attention`.

The pack is made up, samples of a question, a photo and a picture to paint laid end to end, or one in the reference's layout,
--pack FILE.npz. Rounds are taken in turns, and medians of processor time are printed, so that other work on the machine
disturbs ratios little. `python -m sgt_jax.timing.versus` compares with another version.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from sgt_jax import errors
from sgt_jax.batch import CAUSAL, FULL, NOISE, TokenInfo, may_attend
from sgt_jax.errors import DataError
from sgt_jax.models.attention import blockwise, packed_attention
from sgt_jax.parity.bagel.pack import token_info


def pack(slots: int, samples: int) -> TokenInfo:
    """Facts [1, slots] of equal samples: a fifth causal text, two fifths a full photo, two fifths a noisy picture."""
    length = slots // samples
    number, order = np.divmod(np.arange(slots), length)
    split = np.searchsorted([length // 5, 3 * length // 5], order, side="right")
    mode = np.asarray([CAUSAL, FULL, NOISE])[split]
    sample = np.where(number < samples, number + 1, 0)
    return TokenInfo(*(np.asarray(x, np.int32)[None] for x in (sample, split, order, order, mode)))


def read_pack(file: str) -> TokenInfo:
    """Facts [1, slots] of a pack as the reference lays it out, such as tests/golden/perf/pack.npz, without its padding.

    Raises:
      DataError: the file cannot be read, or holds no such pack.
    """
    try:
        with np.load(file) as arrays:
            found = token_info(arrays, int(arrays["sequence_length"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = " ".join(str(error).split())
        raise DataError(
            f"{file}: is no pack in the reference's layout ({why}); tests/golden/perf/pack.npz is one"
        ) from None
    return TokenInfo(**{name: x[None] for name, x in found.items()})


def compiled(backend: str, block: int, info: TokenInfo, heads: int, kv_heads: int, size: int) -> tuple[Callable, int]:
    """(a call that computes all three gradients and waits, bytes of temporaries of the program)."""
    rng = np.random.default_rng(0)
    slots = info.sample.shape[1]
    q, k, v = (jnp.asarray(rng.standard_normal((1, slots, n, size)), jnp.float32) for n in (heads, kv_heads, kv_heads))

    def loss(q: jax.Array, k: jax.Array, v: jax.Array, info: TokenInfo) -> jax.Array:
        return jnp.sum(
            jnp.sin(packed_attention(q, k, v, info, info, backend=backend, block=block, precision="highest"))
        )

    program = jax.jit(jax.grad(loss, (0, 1, 2))).lower(q, k, v, info).compile()
    return lambda: jax.block_until_ready(program(q, k, v, info)), program.memory_analysis().temp_size_in_bytes


def visited(info: TokenInfo, block: int) -> tuple[int, int]:
    """Block pairs that the loop visits, by its trip counts, and those that hold an allowed pair, by the dense mask."""
    size = blockwise.block_size(info.sample.shape[1], block)
    mask = np.asarray(may_attend(info, info))[0]
    mask = np.pad(mask, ((0, -len(mask) % size),) * 2)
    holding = mask.reshape(len(mask) // size, size, -1, size).any((1, 3))
    return int(blockwise.make_plan(info, info, block).count.sum()), int(holding.sum())


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    flags = argparse.ArgumentParser(description="time one layer's attention by each backend")
    flags.add_argument("--pack", metavar="FILE", help="a pack in the reference's layout, and not one made up")
    flags.add_argument("--slots", type=int, default=1105)
    flags.add_argument("--samples", type=int, default=5)
    flags.add_argument("--heads", type=int, default=8)
    flags.add_argument("--kv-heads", type=int, default=2)
    flags.add_argument("--size", type=int, default=64, help="of a head")
    flags.add_argument("--block", type=int, default=512, help="largest block")
    flags.add_argument("--backends", nargs="+", default=["xla", "blockwise"])
    flags.add_argument("--rounds", type=int, default=7)
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a line a backend, and the blocks visited."""
    options = parser().parse_args(argv)
    return errors.guarded(lambda: compare(options))


def compare(options: argparse.Namespace) -> None:
    """The command."""
    info = read_pack(options.pack) if options.pack else pack(options.slots, options.samples)
    found = {
        name: compiled(name, options.block, info, options.heads, options.kv_heads, options.size)
        for name in options.backends
    }
    times: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(options.rounds):
        for name, (call, _) in found.items():
            began = time.process_time()
            call()
            times[name].append(time.process_time() - began)
    first = times[options.backends[0]]
    for name, (_, temporaries) in found.items():
        ratio = statistics.median(a / b for a, b in zip(first, times[name]))
        milliseconds = 1e3 * statistics.median(times[name])
        print(
            f"{name:12} {milliseconds:8.1f} ms  {ratio:6.2f} times as fast  {temporaries / 2**20:8.1f} MiB of temporaries"
        )
    visits, holding = visited(info, options.block)
    print(f"blockwise visits {visits} block pairs; {holding} hold an allowed pair")


if __name__ == "__main__":
    raise SystemExit(main())
