"""How far a base of 8-bit integers is off, layer by layer: the golden BAGEL model on the recorded pack.

    python -m tests.support.int8_error

Prints the relative error (root mean square over all slots) of the residual stream after every layer, of logits and of
velocity: of bfloat16 against float32, of int8 projections with bfloat16 elsewhere against bfloat16, and against float32.
"""

import jax
import numpy as np

from sgt_jax.models import adapting, family
from sgt_jax.parity.bagel.folder import Folder
from tests.support import paths

ASKED = dict(rank=1, alpha=0.0, targets="both", dropout=0.0, rslora=False, base_dtype="int8")


def measured() -> dict[str, dict[str, float]]:
    """{what: {pair: relative error}}."""
    outputs = {}
    for name in ("float32", "bfloat16", "int8"):
        folder = Folder(paths.GOLDEN / "bagel", dtype="float32" if name == "float32" else "bfloat16")
        params = folder.params
        if name == "int8":
            params = adapting.adaptation(ASKED, family.by_name("bagel"), folder.config).attached(params, jax.random.key(0))
        layers = folder.config.llm.num_hidden_layers
        names = tuple(f"hidden_{i}" for i in range(layers))
        found = jax.jit(lambda p, f=folder, n=names: f.model.forward(p, f.pack.batch, f.pack.draws, n))(params)
        outputs[name] = {key: np.asarray(found[key], np.float64) for key in (*names, "logits", "velocity")}

    def error(one: str, two: str, key: str) -> float:
        a, b = outputs[one][key], outputs[two][key]
        return float(np.sqrt(np.mean((a - b) ** 2) / np.mean(b**2)))

    pairs = (("bfloat16", "float32"), ("int8", "bfloat16"), ("int8", "float32"))
    return {key: {f"{a} - {b}": error(a, b, key) for a, b in pairs} for key in outputs["int8"]}


def main() -> None:
    """The command."""
    found = measured()
    print(f"{'':12}" + "".join(f"{pair:>22}" for pair in next(iter(found.values()))))
    for key, errors in found.items():
        print(f"{key:12}" + "".join(f"{error:>22.4f}" for error in errors.values()))


if __name__ == "__main__":
    main()
