"""One attention function for every model: packed, grouped key-value heads, masked by TokenInfo; picks the backend.

All backends follow one rule (`batch.may_attend`), compute the softmax in float32, and give zeros for a query that may
attend to nothing (padding). Shapes: B rows, S query slots, T key slots, H heads, K key-value heads, D head size.

What depends on the mask alone is made once per step by `prepare` and shared by all layers, which call `attend`.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from sgt_jax.batch import NOISE, TokenInfo, may_attend
from sgt_jax.errors import ConfigError, hint
from sgt_jax.models.attention import blockwise, tpu, xla
from sgt_jax.models.attention.xla import dense_attention
from sgt_jax.parallel.partitioning import LOGICAL, per_shard

__all__ = ("BACKENDS", "attend", "attend_heads_first", "dense_attention", "packed_attention", "prepare", "segment_info")


class Backend(NamedTuple):
    """One way to compute.

    Attributes:
      prepare: (query info, key info, block) -> what `attend` needs to know of the mask.
      attend: (q, k, v, prepared, block, precision) -> [B, S, H, D].
      local: each device must be given its own share explicitly, as the compiler cannot split a kernel.
    """

    prepare: Callable[..., Any]
    attend: Callable[..., jax.Array]
    local: bool = False


def _facts(query: TokenInfo, key: TokenInfo, block: int) -> tuple[TokenInfo, TokenInfo]:
    del block
    return query, key


BACKENDS: Mapping[str, Backend] = {
    "xla": Backend(_facts, xla.whole),
    "blockwise": Backend(blockwise.make_plan, blockwise.attend, local=True),
    "tpu": Backend(tpu.make_plan, tpu.attend, local=True),
    # The TPU kernels run step by step on any platform: for tests.
    "tpu_interpret": Backend(tpu.make_plan, functools.partial(tpu.attend, interpret=True), local=True),
}
AUTO = "auto"
_DENSE_BELOW = 128  # queries; see docs/performance.md for where "xla" and "blockwise" take equally long


def _backend(name: str, queries: int) -> Backend:
    if name == AUTO:
        name = "xla" if queries < _DENSE_BELOW else "blockwise"
    if name not in BACKENDS:
        raise ConfigError(f"attention '{name}' does not exist; {hint(name, (AUTO, *BACKENDS), 'choose one of')}")
    return BACKENDS[name]


def segment_info(sample: jax.Array, segment: jax.Array) -> TokenInfo:
    """Facts that let slots see exactly the slots of their own sample and segment (a picture in the ViT lane).

    A NOISE split sees itself and earlier other splits, and every split here is NOISE: so it sees itself only.
    """
    zero = jnp.zeros_like(sample)
    return TokenInfo(sample=sample, split=segment, order=zero, position=zero, mode=jnp.full_like(sample, NOISE))


def prepare(query_info: TokenInfo, key_info: TokenInfo, *, backend: str = "xla", block: int = 512) -> Any:
    """What `attend` needs to know of the mask: a pytree of arrays, equal for all layers of a step.

    Args:
      query_info, key_info: facts of the slots, fields [B, S] and [B, T]; the same object for self-attention.
      backend: a key of BACKENDS, or "auto": "xla" for few queries, else "blockwise".
      block: largest block of queries (and of keys) of backends that have one.

    Raises:
      ConfigError: unknown backend.
    """
    chosen = _backend(backend, query_info.sample.shape[1])
    if not chosen.local or (mesh := _mesh()) is None:
        return chosen.prepare(query_info, key_info, block)
    # Every device plans its own rows and queries; its numbers come back under a leading axis of devices.
    rows, context = _axes(mesh, *query_info.sample.shape)
    whole = query_info is key_info and not context

    def plan(query: TokenInfo, key: TokenInfo) -> Any:
        return jax.tree.map(lambda x: x[None], chosen.prepare(query, query if whole else key, block))

    return jax.shard_map(
        plan, mesh=mesh, in_specs=(P(rows, context), P(rows)), out_specs=P((*rows, *context)), check_vma=False
    )(query_info, key_info)


def attend(
    q_BSHD: jax.Array, k_BTKD: jax.Array, v_BTKD: jax.Array, prepared: Any, *, backend: str = "xla", block: int = 512,
    precision: Any = None,
) -> jax.Array:  # fmt: skip
    """Attention under a mask that `prepare` prepared with the same backend and block; see `packed_attention`."""
    chosen = _backend(backend, q_BSHD.shape[1])
    if not chosen.local:
        # Each device answers its own queries here, too: left alone, the compiler moves heads or scans over split slots.
        return per_shard(
            lambda q, k, v, *facts: chosen.attend(q, k, v, facts, block, precision),
            (q_BSHD, k_BTKD, v_BTKD, *prepared),
            (
                ("rows", "slots", "heads"),
                ("rows", None, "heads"),
                ("rows", None, "heads"),
                ("rows", "slots"),
                ("rows",),
            ),
        )
    if (mesh := _mesh()) is None:
        return chosen.attend(q_BSHD, k_BTKD, v_BTKD, prepared, block, precision)
    # Queries are split over the context axis, keys and values are gathered there.
    rows, context = _axes(mesh, *q_BSHD.shape[:2])
    heads = _used(mesh, k_BTKD.shape[2], "tensor")

    def run(q: jax.Array, k: jax.Array, v: jax.Array, prepared: Any) -> jax.Array:
        return chosen.attend(q, k, v, jax.tree.map(lambda x: x[0], prepared), block, precision)

    return jax.shard_map(
        run, mesh=mesh, check_vma=False,
        in_specs=(P(rows, context, heads), P(rows, None, heads), P(rows, None, heads), P((*rows, *context))),
        out_specs=P(rows, context, heads),
    )(q_BSHD, k_BTKD, v_BTKD, prepared)  # fmt: skip


def attend_heads_first(
    q_BSHD: jax.Array, k_BKTD: jax.Array, v_BKTD: jax.Array, query_info: TokenInfo, key_info: TokenInfo,
    precision: Any = None,
) -> jax.Array:  # fmt: skip
    """`packed_attention` of few queries over a cache that is read as it lies: every score at once, whatever the backend."""

    def run(q: jax.Array, k: jax.Array, v: jax.Array, query: TokenInfo, key: TokenInfo) -> jax.Array:
        return xla.heads_first(q, k, v, may_attend(query, key), precision)

    cache = ("rows", "heads", None)
    return per_shard(
        run, (q_BSHD, k_BKTD, v_BKTD, query_info, key_info),
        (("rows", "slots", "heads"), cache, cache, ("rows", "slots"), ("rows",)),
    )  # fmt: skip


def _mesh() -> Any:
    """The mesh set by `jax.set_mesh`, if it has several devices and is not split up already."""
    mesh = jax.sharding.get_abstract_mesh()
    return None if mesh.empty or mesh.size == 1 or mesh.manual_axes else mesh


def _axes(mesh: Any, rows: int, queries: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Mesh axes over which rows are spread, and over which the queries of a row are."""
    return _used(mesh, rows, *LOGICAL["rows"]), _used(mesh, queries, *LOGICAL["slots"])


def _used(mesh: Any, size: int, *axes: str) -> tuple[str, ...]:
    """Those of these axes that are there; none if they do not divide the size: then every device computes all of it."""
    used = tuple(axis for axis in axes if mesh.shape[axis] > 1)
    return used if size % math.prod(mesh.shape[axis] for axis in used) == 0 else ()


def packed_attention(
    q_BSHD: jax.Array,
    k_BTKD: jax.Array,
    v_BTKD: jax.Array,
    query_info: TokenInfo,
    key_info: TokenInfo,
    *,
    backend: str = "xla",
    block: int = 512,
    precision: Any = None,
) -> jax.Array:
    """Attention of packed slots under the mask rule, prepared and computed.

    Args:
      q_BSHD: [B, S, H, D] queries, k_BTKD and v_BTKD: [B, T, K, D] with K dividing H.
      query_info, key_info: facts of the slots, fields [B, S] and [B, T].
      backend: a key of BACKENDS, or "auto": "xla" for few queries, else "blockwise".
      block: largest block of queries (and of keys) of backends that have one.
      precision: matmul precision, as in jax.lax.

    Returns:
      [B, S, H, D] in the dtype of q; zeros where a query may attend to nothing.

    Raises:
      ConfigError: unknown backend.
    """
    prepared = prepare(query_info, key_info, backend=backend, block=block)
    return attend(q_BSHD, k_BTKD, v_BTKD, prepared, backend=backend, block=block, precision=precision)
