"""A folder of numbers recorded from the PyTorch reference: its model, its pack as lanes, how arrays are compared."""

import functools
import json
import re
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from sgt_jax import trees
from sgt_jax.checkpoints import adapters
from sgt_jax.checkpoints.exporting import published_arrays
from sgt_jax.data.layouts.bagel import SpecialTokens
from sgt_jax.models import lora
from sgt_jax.models.bagel import names
from sgt_jax.models.bagel.config import BagelConfig
from sgt_jax.models.bagel.model import Bagel
from sgt_jax.models.bagel.published import load_published
from sgt_jax.parity.bagel.pack import ReferencePack, to_lanes
from sgt_jax.training.objectives import sgt

# The reference trains neither the autoencoder nor the fixed tables.
FREEZE = ("^vae/", "pos_embed")


def special_tokens(config: BagelConfig) -> SpecialTokens:
    """A model's special tokens as a layout wants them."""
    t = config.special_tokens
    return SpecialTokens(t.bos_token_id, t.eos_token_id, t.start_of_image, t.end_of_image)


class Folder:
    """A folder of recorded numbers, its model, and everything that several sections need, computed once."""

    def __init__(self, path: Any, **changes: Any) -> None:
        """`changes` override the model's config (attention="blockwise", scan_layers=True, ...)."""
        self.path = epath.Path(path)
        self.settings = json.loads((self.path / "ckpt" / "golden_config.json").read_text())["training"]
        self.config = BagelConfig.from_folder(self.path / "ckpt", **changes)
        self.model = Bagel(self.config)
        self.loss_config = types.SimpleNamespace(
            ce_weight=self.settings["ce_weight"], mse_weight=self.settings["mse_weight"], ce_loss_reweighting=False
        )

    def json(self, name: str) -> Any:
        """The content of a JSON file."""
        return json.loads((self.path / name).read_text())

    def toy_ids(self, text: str) -> list[int]:
        """Ids of a text under the folder's toy tokenizer, an affine map of UTF-8 bytes."""
        toy = self.json("ckpt/golden_config.json")["toy_tokenizer"]
        return [(byte * toy["mul"] + toy["add"]) % toy["mod"] for byte in text.encode()]

    @functools.cached_property
    def resize_rule(self) -> str:
        """Which max_pixels rule the folder's pictures follow: it says so by the columns of resize_cases.json."""
        cases = self.json("resize_cases.json") if self.has("resize_cases.json") else []
        return "bagel" if cases and not any({"out_wh", "out_wh_sgt"} & set(case) for case in cases) else "sgt"

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of an npz file."""
        with np.load(self.path / name) as file:
            return dict(file)

    def has(self, name: str) -> bool:
        """Whether the folder holds a file."""
        return (self.path / name).exists()

    @functools.cached_property
    def inputs(self) -> dict[str, np.ndarray]:
        """train_inputs.npz."""
        return self.arrays("train_inputs.npz")

    @functools.cached_property
    def expected(self) -> dict[str, np.ndarray]:
        """train_expected.npz."""
        return self.arrays("train_expected.npz")

    @functools.cached_property
    def params(self) -> dict[str, Any]:
        """The checkpoint."""
        folder = self.path / "ckpt"
        # A checkpoint of the reference's training may lack the fixed tables.
        tables = [f"^{re.escape(name)}$" for name in names.TABLES]
        return load_published(folder, self.config, dtype="float32", initialise=tables).params

    def add_adapter(self, path: str, scale: float) -> None:
        """Compares the checkpoint with an adapter added, not the checkpoint.

        Raises:
          CheckpointError: the adapter is damaged, or of another model.
        """
        modules = lora.linears(names.name_map(self.config))
        self.params = lora.merged(self.params, modules, adapters.read_any(path), scale)

    @functools.cached_property
    def pack(self) -> ReferencePack:
        """The recorded pack as lanes."""
        return to_lanes(self.inputs, self.config)

    def value_and_grad(self, model: Bagel) -> Callable[[Any], Any]:
        """Compiled: trainable parameters -> ((loss, metrics and t), gradients) on the pack."""
        _, frozen = trees.split_trainable(self.params, FREEZE)
        batch, draws = jax.tree.map(jnp.asarray, (self.pack.batch, self.pack.draws))

        def loss(trainable: Any, frozen: Any, batch: Any, draws: Any) -> Any:
            outputs = model.forward(trees.merge(trainable, frozen), batch, draws)
            return sgt.sgt_objective(outputs, batch, self.loss_config)

        compiled = jax.jit(jax.value_and_grad(loss, has_aux=True))
        return lambda trainable: compiled(trainable, frozen, batch, draws)

    @functools.cached_property
    def train_gradient(self) -> Callable[[Any], Any]:
        """`value_and_grad` of the model as it is; the sections "train" and "optimizer" share its compilation."""
        return self.value_and_grad(self.model)

    @functools.cached_property
    def trainable(self) -> dict[str, Any]:
        """The parameters that the reference trains."""
        return trees.split_trainable(self.params, FREEZE)[0]

    def published(self, tree: Any) -> dict[str, np.ndarray]:
        """A tree of trainable parameters, gradients or averages under the published names."""
        found = published_arrays(tree, names.name_map(self.config, names.MODEL_FILE))
        return {name: x for name, x in found.items() if name not in names.TABLES}
