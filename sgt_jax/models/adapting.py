"""Adapters while they are trained: leaves beside the kernels of linear layers.

Beside a kernel [in, out] stand lora_a [in, r], lora_b [r, out], float32, and lora_scale; `layers.Linear` adds
scale * (x lora_a) lora_b where it finds them. Layers that are stacked have stacked leaves. A new adapter begins as PEFT's
do: A uniform in +-1/sqrt(in), B zero, so that it changes nothing yet.
"""

import functools
import hashlib
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sgt_jax import trees
from sgt_jax.checkpoints.adapters import Low, Settings
from sgt_jax.checkpoints.names import NameMap
from sgt_jax.errors import ConfigError
from sgt_jax.models import int8
from sgt_jax.models.family import Family, ModelConfig

# Patterns (as in config.freeze) that leave the adapters alone to be trained.
FREEZE = (r"^(?!.*/lora_[ab]$)",)
INT8 = "int8"
BASE_DTYPES = ("", "float32", "bfloat16", INT8)
_TABLE = "/table"  # fixed position tables stay float32
_NAMED = ("und", "gen", "both")


class Place(NamedTuple):
    """The adapters beside one kernel.

    Attributes:
      modules: their names in a file, in the order of layers.
      inputs, outputs: of the kernel.
      stacked: whether leaves have a leading layer axis.
    """

    modules: tuple[str, ...]
    inputs: int
    outputs: int
    stacked: bool


class Adaptation(NamedTuple):
    """Which adapters a run trains.

    Attributes:
      settings: as adapter_config.json says them.
      dtype: of the base's parameters, but for those of `quantised`.
      places: {path of a linear layer: the adapters there}.
      quantised: paths of the kernels that are kept as int8.
    """

    settings: Settings
    dtype: str
    places: Mapping[str, Place]
    quantised: frozenset[str] = frozenset()

    @property
    def scale(self) -> float:
        """What every product B A is multiplied with."""
        return self.settings.scale_of("")

    def fresh(self, key: jax.Array) -> dict[str, jax.Array]:
        """{path: leaf} of new adapters. A module's numbers follow from the key and its name, however layers are kept."""
        rank, out = self.settings.rank, {}
        for path, place in self.places.items():
            numbers = jnp.asarray([zlib.crc32(name.encode()) for name in place.modules], jnp.uint32)
            shape, bound = (place.inputs, rank), place.inputs**-0.5

            def draw(number: jax.Array, shape: tuple = shape, bound: float = bound) -> jax.Array:
                return jax.random.uniform(jax.random.fold_in(key, number), shape, jnp.float32, -bound, bound)

            a = jax.vmap(draw)(numbers)
            b = jnp.zeros((len(numbers), rank, place.outputs))
            for name, leaf in (("a", a), ("b", b)):
                out[f"{path}/lora_{name}"] = leaf if place.stacked else leaf[0]
        return out | self.scales()

    def scales(self) -> dict[str, jax.Array]:
        """{path: leaf} of what products are multiplied with."""
        return {
            f"{path}/lora_scale": jnp.full(len(place.modules) if place.stacked else (), self.scale, jnp.float32)
            for path, place in self.places.items()
        }

    def attached(self, params: Any, key: jax.Array) -> Any:
        """The parameters of a base, in the base's dtype, with new adapters. Pure: jit it with shardings."""
        return trees.nested(trees.flat(self.cast(params)) | self.fresh(key))

    def cast(self, params: Any) -> Any:
        """Parameters of a base in the dtype that it is kept in."""
        leaves = {}
        for path, leaf in trees.flat(cast(params, self.dtype)).items():
            leaves |= self.kept(path, leaf)
        return trees.nested(leaves)

    def kept(self, path: str, leaf: jax.Array, places: Mapping[str, jax.sharding.Sharding] | None = None) -> dict[str, Any]:
        """{path: array} of what is kept of one leaf of a base: itself, or integers and their scale, at their places."""
        if path not in self.quantised:
            return {path: leaf}
        names = (path, path.removesuffix("kernel") + int8.SCALE)
        return dict(zip(names, _quantising(tuple(places[name] for name in names) if places else None)(leaf), strict=True))

    def dropped(self, params: Any, key: jax.Array) -> Any:
        """The parameters with what `layers.Linear` draws an adapter's dropout from: a key a module, and the rate."""
        found = {}
        for path, place in self.places.items():
            own = jax.random.fold_in(key, np.uint32(zlib.crc32(path.encode())))
            count = len(place.modules)
            found[f"{path}/lora_key"] = jax.random.split(own, count) if place.stacked else own
            rate = jnp.float32(self.settings.dropout)
            found[f"{path}/lora_rate"] = jnp.full(count, rate) if place.stacked else rate
        return trees.nested(trees.flat(params) | found)

    def lows(self, read: Callable[[str, int | None], np.ndarray]) -> dict[str, Low]:
        """{module: adapter} as files have them; `read` gives a leaf, or one layer of a stacked one, by its path."""
        found = {}
        for path, place in self.places.items():
            for layer, module in enumerate(place.modules):
                a, b = (read(f"{path}/lora_{half}", layer if place.stacked else None) for half in "ab")
                found[module] = Low(np.ascontiguousarray(a.T), np.ascontiguousarray(b.T), self.scale)
        return found


def adaptation(values: Mapping[str, Any] | None, family: Family, model: ModelConfig) -> Adaptation | None:
    """What a run's `config.adapter` asks for; None if it is off.

    Raises:
      ConfigError: targets are no regular expression, name nothing, some layers of a stack alone, or what gets no gradient.
      CheckpointError: the family takes no adapters.
    """
    if not values or not values["rank"]:
        return None
    rank, targets = values["rank"], values["targets"]
    if (dtype := values["base_dtype"]) not in BASE_DTYPES:
        raise ConfigError(f"config.adapter.base_dtype='{dtype}': choose one of {', '.join(map(repr, BASE_DTYPES))}")
    parts, modules = family.adapter_parts(model), family.adapter_modules(model)
    named = {name: part.pattern for name, part in parts.items()} | {"both": "|".join(p.pattern for p in parts.values())}
    try:
        pattern = re.compile(named.get(targets, targets))
    except re.error as error:
        raise ConfigError(f"config.adapter.targets='{targets}': is no regular expression ({error})") from None
    chosen = {name: source for name, source in modules.items() if pattern.fullmatch(name)}
    if not chosen:
        raise ConfigError(
            f"config.adapter.targets='{targets}': names no linear layer of this model; choose {', '.join(_NAMED)}, or a "
            f"regular expression for the whole of names such as {next(iter(modules))}"
        )
    for part in parts.values():
        if part.held and (held := next((name for name in chosen if re.fullmatch(part.pattern, name)), "")):
            raise ConfigError(f"config.adapter.targets='{targets}': {part.held} keeps gradients from {held}")
    settings = Settings(
        rank, float(values["alpha"] or 2 * rank), pattern.pattern, rslora=values["rslora"], dropout=values["dropout"]
    )
    whole, quantised = dtype, frozenset[str]()
    if dtype == INT8:
        projections = re.compile(family.projections(model))
        whole, quantised = "", frozenset(s.path for name, s in modules.items() if projections.fullmatch(name))
    return Adaptation(settings, whole or getattr(model, "dtype", "float32"), _places(chosen, modules, targets), quantised)


def _places(chosen: NameMap, modules: NameMap, targets: str) -> dict[str, Place]:
    whole: dict[str, int] = {}
    for source in modules.values():
        whole[source.path] = whole.get(source.path, 0) + 1
    by_path: dict[str, list[tuple[int, str]]] = {}
    for name, source in chosen.items():
        by_path.setdefault(source.path, []).append((source.layer or 0, name))
    found = {}
    for path, layers in sorted(by_path.items()):
        names = tuple(name for _, name in sorted(layers))
        if len(names) != whole[path]:
            raise ConfigError(
                f"config.adapter.targets='{targets}': names {len(names)} of {whole[path]} layers of {path}, and stacked "
                "layers have adapters together; set --config.model.scan_layers=False, or name all of them"
            )
        source = chosen[names[0]]
        outputs, inputs = source.shape
        found[path.removesuffix("/kernel")] = Place(names, inputs, outputs, source.layer is not None)
    return found


def cast(params: Any, dtype: Any) -> Any:
    """Parameters in another dtype; position tables stay as they are."""

    def one(path: Any, leaf: Any) -> Any:
        return leaf if trees.path_name(path).endswith(_TABLE) else leaf.astype(dtype)

    return jax.tree_util.tree_map_with_path(one, params)


@functools.cache  # compiled once per shape and places
def _quantising(places: Any) -> Callable[[jax.Array], tuple[jax.Array, jax.Array]]:
    return jax.jit(int8.quantised, out_shardings=places)


def folded(params: Any) -> Any:
    """Parameters without adapters that compute what those with adapters do: kernel + scale * A B.

    Sums are made in float32, and have the kernels' dtype; quantised kernels must be floating again (`int8.floating`).
    """
    leaves = trees.flat(params)
    adapted = {path.removesuffix("/lora_a") for path in leaves if path.endswith("/lora_a")}
    out = {path: leaf for path, leaf in leaves.items() if "/lora_" not in path}
    for path in adapted:
        out[f"{path}/kernel"] = _fold(out[f"{path}/kernel"], *(leaves[f"{path}/lora_{x}"] for x in ("a", "b", "scale")))
    return trees.nested(out)


@jax.jit
def _fold(kernel: jax.Array, a: jax.Array, b: jax.Array, scale: jax.Array) -> jax.Array:
    low = jnp.matmul(a, b, precision="highest")
    return (kernel.astype(jnp.float32) + scale.reshape(scale.shape + (1, 1)) * low).astype(kernel.dtype)


# -- Which base ----------------------------------------------------------------------------------------------------------


def checksum(params: Any, dtype: Any) -> str:
    """A text that two bases share only if all their numbers are the same in some dtype, whatever files and devices hold them.

    Adapters do not count, and integers count as they are. Sums of integers modulo 2^32, so that the order of summing does
    not matter: a change of any one number changes them.
    """
    leaves = {path: leaf for path, leaf in sorted(trees.flat(params).items()) if "/lora_" not in path}
    sums = {
        path: _sums(leaf if path.endswith((_TABLE, int8.SCALE)) or leaf.dtype == jnp.int8 else leaf.astype(dtype))
        for path, leaf in leaves.items()
    }
    found = hashlib.sha256()
    for path, pair in sums.items():
        found.update(f"{path} {' '.join(str(int(x)) for x in pair)}\n".encode())
    return found.hexdigest()[:16]


def _sums(leaf: jax.Array) -> Any:
    sharding = getattr(leaf, "sharding", None)
    whole = jax.NamedSharding(sharding.mesh, jax.P()) if isinstance(sharding, jax.NamedSharding) else None
    return _summing(whole)(leaf)


@functools.cache  # compiled once per shape and mesh
def _summing(whole: Any) -> Callable[[jax.Array], tuple[jax.Array, jax.Array]]:
    return jax.jit(_weighted_sums, out_shardings=whole)


def _weighted_sums(leaf: jax.Array) -> tuple[jax.Array, jax.Array]:
    bits = jax.lax.bitcast_convert_type(leaf, f"uint{8 * leaf.dtype.itemsize}").astype(jnp.uint32)
    place, stride = jnp.zeros(leaf.shape, jnp.uint32), 1
    for axis in reversed(range(leaf.ndim)):
        place += jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis) * np.uint32(stride % 2**32)
        stride *= leaf.shape[axis]
    odd = 2 * place + 1  # no factor takes information away
    mixed = (bits ^ (bits >> 15)) * np.uint32(0x2C1B3C6D)
    return jnp.sum(bits * odd, dtype=jnp.uint32), jnp.sum((mixed ^ (mixed >> 12)) * odd, dtype=jnp.uint32)
