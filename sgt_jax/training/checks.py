"""Every number of a config is checked before anything is built: a wrong one is named within seconds, and nothing compiles.

0 is allowed where it means "off": the table says where.
"""

import math
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from sgt_jax.assets import hub
from sgt_jax.data.tasks import given_options
from sgt_jax.errors import ConfigError, beside, hint
from sgt_jax.evaluation import evaluators

SEEDS = 2**31 - 1  # the largest; keys of JAX and shuffles of Grain take 32 bits
_DATA_SEEDS = SEEDS // 1009 - 1  # shuffles are seeded by this times 1009, plus the number of the part


class Rule(NamedTuple):
    """What a number may be: at least `low`, at most `high`; `whole` numbers are no fractions; `open` excludes `high`."""

    low: float = 0
    high: float = math.inf
    whole: bool = True
    open: bool = False

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        if self.high == math.inf:
            return f"{kind} from {self.low} on" if self.low > -math.inf else kind
        return f"{kind} from {self.low} to {'below ' if self.open else ''}{self.high}"

    def allows(self, value: Any) -> bool:
        """Whether a value is such a number."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        if self.whole and value != int(value):
            return False
        return self.low <= value and (value < self.high if self.open else value <= self.high)


FROM_0, FROM_1 = Rule(0), Rule(1)
AMOUNT, SHARE, DECAY = Rule(0, whole=False), Rule(0, 1, whole=False), Rule(0, 1, whole=False, open=True)
SEED = Rule(0, SEEDS)
POSITIVE = Rule(1e-38, whole=False)

# Field -> rule. 0 means "off" for log_every, evaluate_every and checkpoint.every (then only at the end and at a stop), for
# ema_decay, adapter.rank, optimizer.clip, data.prefetch, data.read_threads and cpu_devices (JAX's choice); with total_steps 0
# a run only evaluates.
NUMBERS: Mapping[str, Rule] = {
    "seed": SEED,
    "total_steps": FROM_0,
    "accumulate": FROM_1,
    "ema_decay": DECAY,
    "max_nonfinite": FROM_1,
    "evaluate_every": FROM_0,
    "log_every": FROM_0,
    "checkpoint.every": FROM_0,
    "checkpoint.keep": FROM_1,
    "cpu_devices": FROM_0,
    "objective.ce_weight": AMOUNT,
    "objective.mse_weight": AMOUNT,
    "objective.l1_weight": AMOUNT,
    "objective.kl_weight": AMOUNT,
    "adapter.rank": FROM_0,
    "adapter.alpha": AMOUNT,
    "adapter.dropout": DECAY,
    "optimizer.learning_rate": AMOUNT,
    "optimizer.muon_learning_rate": AMOUNT,
    "optimizer.muon_momentum": DECAY,
    "optimizer.b1": DECAY,
    "optimizer.b2": DECAY,
    "optimizer.eps": POSITIVE,
    "optimizer.weight_decay": AMOUNT,
    "optimizer.clip": AMOUNT,
    "schedule.warmup_steps": FROM_0,
    "schedule.decay_fraction": SHARE,
    "schedule.final_fraction": AMOUNT,
    "data.seed": Rule(0, _DATA_SEEDS),
    "data.rows": FROM_1,
    "data.pool_size": FROM_1,
    "data.prefetch": FROM_0,
    "data.read_threads": FROM_0,
    "data.mixture.*.weight": AMOUNT,
    "data.mixture.*.joined_rate": SHARE,
    "data.budgets.*": FROM_1,
    "data.dropout.*": SHARE,
    **{f"data.{name}.{side}": FROM_1 for name in ("vit_size", "target_size") for side in ("stride", "min_size", "max_size")},
    "sampling.*.steps": FROM_1,
    "sampling.*.shift": POSITIVE,
    "evaluators.*.n": FROM_1,
    "evaluators.*.batch": FROM_1,
    "evaluators.*.batches": FROM_1,
    "evaluators.*.steps": FROM_1,
    "evaluators.*.shift": POSITIVE,
    "evaluators.*.max_new_tokens": FROM_0,
    "evaluators.*.show": FROM_0,
    "evaluators.*.seed": SEED,
    "evaluators.*.train_n": FROM_0,
    "evaluators.*.max_masks": FROM_1,
    "evaluators.*.text_scale": AMOUNT,
}  # fmt: skip
TASKS = ("proxy", "understanding", "text_to_image", "editing")
# Of the model: these are counts from 1 on wherever they stand.
_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size",
          "max_position_embeddings", "patch_size", "image_size", "num_channels", "latent_patch_size", "max_latent_size",
          "vit_max_num_patch_per_side", "attention_block", "ch", "z_channels", "num_res_blocks")  # fmt: skip
_FROM_0 = ("num_res_blocks",)
_POSITIVE = ("rms_norm_eps", "layer_norm_eps", "rope_theta", "timestep_shift")


def check(config: ConfigDict) -> None:
    """Checks the numbers of a run's config, and the names that are known before its data are read.

    Raises:
      ConfigError: the first field that is wrong, with what it may be.
    """
    fields = config.to_dict()
    for path, value in _leaves(fields):
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"config.{path}={value}: must be a finite number")
    for pattern, rule in NUMBERS.items():
        for path, value in _matching(fields, pattern.split(".")):
            _number(path, value, rule)
    for path, value in _leaves(fields.get("model", {}), "model"):
        name = path.rpartition(".")[2]
        if name in _SIZES:
            _number(path, value, FROM_0 if name in _FROM_0 else FROM_1)
        elif name in _POSITIVE:
            _number(path, value, POSITIVE)
    _weights(fields)
    _names(fields)


def before_anything(config: ConfigDict) -> None:
    """What needs neither JAX nor data: numbers and names of a run's config.

    Raises:
      ConfigError: as `check` and `check_data`.
    """
    check_kind(config)
    check(config)
    check_data(config)


def check_places(config: ConfigDict) -> None:
    """The folders that a run starts from and reads: what is missing is said with the command that downloads it.

    Raises:
      ConfigError: one is not there.
    """
    named = {name: config.get(name, "") for name in ("init_from", "init_base", "vae_from")}
    named["data.tokenizer"] = config.data.get("tokenizer", "")
    written: set[str] = set()
    used = {part.get("source") for part in config.data.mixture.values() if not part.get("tokenised")}
    for name in sorted(used & set(config.data.sources)):
        root = config.data.sources[name].get("root", "")
        named[f"data.sources.{name}.root"] = root if isinstance(root, str) else ""
        if config.data.sources[name].type == "records":
            written.add(f"data.sources.{name}.root")
    for field, path in named.items():
        if path and "://" not in path and not path.startswith("package:") and not os.path.exists(os.path.expanduser(path)):
            advice = f"; `sgt ingest ... {path}` writes it" if field in written else hub.advice(path) or beside(path)
            raise ConfigError(f"config.{field}={path}: is not there{advice}")


def check_kind(config: ConfigDict) -> None:
    """Raises a ConfigError unless the config is one of a run; a study's config holds a run's as `base`."""
    if "arms" in config:
        raise ConfigError("--config is a study: train its arms with sgt study --config=... --workdir=...")
    if "data" not in config or "total_steps" not in config:
        raise ConfigError("--config is no experiment: it lacks data or total_steps; configs/nano.py has every field")


def check_data(config: ConfigDict) -> None:
    """The names of proxies, tasks, sources and palettes: what commands need that read the data of a config.

    Raises:
      ConfigError: a name that does not exist, with the one that was probably meant.
    """
    from sgt_jax.data.pictures.masks import PALETTES
    from sgt_jax.data.proxies import PROXIES
    from sgt_jax.data.sources import SOURCES

    check_kind(config)
    fields = config.to_dict()
    check_proxies(fields, PROXIES)
    sources = fields["data"].get("sources", {})
    for name, spec in sources.items():
        if spec.get("type") not in SOURCES:
            wrong = f"config.data.sources.{name}.type: no type '{spec.get('type')}'"
            raise ConfigError(f"{wrong}; {hint(spec.get('type', ''), SOURCES)}")
    for name, part in fields["data"].get("mixture", {}).items():
        where = f"config.data.mixture.{name}"
        if part.get("task") not in TASKS:
            raise ConfigError(f"{where}.task: no task '{part.get('task')}'; {hint(part.get('task', ''), TASKS)}")
        if part.get("source") not in sources and not part.get("tokenised"):
            wrong = f"{where}.source: no source '{part.get('source')}'"
            raise ConfigError(f"{wrong}; {hint(part.get('source', ''), sources, 'config.data.sources has')}")
    for path, value in _leaves(fields):
        if path.endswith("palette") and isinstance(value, str) and value and value not in PALETTES:
            raise ConfigError(f"config.{path}: no palette '{value}'; {hint(value, PALETTES)}")


def check_proxies(fields: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Raises a ConfigError if a part of the mixture names a proxy or an option of one that is not `known`."""
    for part, spec in fields["data"]["mixture"].items():
        if spec.get("task") != "proxy":
            continue
        where = f"config.data.mixture.{part}"
        options = set(given_options(spec)) - {"style"}
        allowed: set[str] = set()
        for name in str(spec["proxy"]).split("+"):
            if name not in known:
                raise ConfigError(f"{where}.proxy: no proxy '{name}'; {hint(name, sorted(known))}")
            allowed |= set(known[name].options)
        if unknown := sorted(options - allowed):
            near = hint(unknown[0], ["style", *sorted(allowed)], "it has")
            raise ConfigError(f"{where}.options: proxy '{spec['proxy']}' has no option {unknown}; {near}")


def _number(path: str, value: Any, rule: Rule) -> None:
    if not rule.allows(value):
        raise ConfigError(f"config.{path}={value}: must be {rule}")


def _weights(fields: Mapping[str, Any]) -> None:
    which = fields.get("evaluate_weights", "ema")
    if which not in ("ema", "params"):
        raise ConfigError(f"config.evaluate_weights='{which}': choose 'ema' or 'params'")
    measured = fields.get("evaluators") and fields.get("total_steps")
    if which == "ema" and not fields.get("ema_decay") and (measured or fields.get("total_steps")):
        raise ConfigError(
            "config.evaluate_weights='ema' needs an average, and config.ema_decay=0 keeps none; set "
            "--config.evaluate_weights=params"
        )


def _names(fields: Mapping[str, Any]) -> None:
    for name, options in (fields.get("evaluators") or {}).items():
        if "type" not in options:
            raise ConfigError(f"config.evaluators.{name} has no type; there are {', '.join(evaluators.EVALUATORS)}")
        evaluators.by_name(options["type"], name)
        if options.get("max_new_tokens") == 0 and options["type"] != "benchmark":  # whose 0 is the benchmark's own length
            _number(f"evaluators.{name}.max_new_tokens", 0, FROM_1)
        sources = fields["data"].get("sources", {})
        wanted = {key: options.get(key) for key in ("source", "train_source")}
        wanted |= {f"sources.{part}": source for part, source in (options.get("sources") or {}).items()}
        for key, source in wanted.items():
            if source and source not in sources:
                there = hint(source, sources, "config.data.sources has")
                raise ConfigError(f"config.evaluators.{name}.{key}: no source '{source}'; {there}")
    if fields["data"].get("on_bad", "error") not in ("error", "skip"):
        raise ConfigError(f"config.data.on_bad='{fields['data']['on_bad']}': choose 'error' or 'skip'")


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _leaves(value, f"{path}.{name}" if path else str(name))
    elif isinstance(node, list | tuple):
        for number, value in enumerate(node):
            yield from _leaves(value, f"{path}[{number}]")
    else:
        yield path, node


def _matching(node: Any, names: list[str], path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of the fields that a pattern means; absent ones are left out."""
    if not names:
        yield path, node
        return
    if not isinstance(node, Mapping):
        return
    first, *rest = names
    for name in node if first == "*" else [first] if first in node else []:
        if first == "*" and rest and not isinstance(node[name], Mapping):
            continue
        yield from _matching(node[name], rest, f"{path}.{name}" if path else str(name))
