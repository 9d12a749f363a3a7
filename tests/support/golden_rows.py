"""The golden's six samples spread over rows, and how far a mesh's loss and gradients are from the recorded ones.

As a program (`python -m tests.support.golden_rows '[{"data": 8}, ...]' [COORDINATOR PROCESSES PROCESS]`) it prints one line
of JSON per mesh shape, in one process with 8 virtual devices or in one of several that have 8 together.
"""

import json
import re
import sys

from tests.support import paths

GOLDEN = paths.GOLDEN / "bagel"
ROWS = (1, 2, None, 3, 4, 5, None, 6)  # samples of the recorded pack; None is an empty row
# Softmax does not see these: the gradient is zero, what is found is rounding.
KEY_BIAS = re.compile(r"^vit_model\..*k_proj\.bias$")
# Quick to compile rather than to run.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def spread(pack, rows=ROWS, multiple=8):
    """The recorded pack, one row, as one row per entry of `rows`; lanes are padded to a multiple of `multiple`.

    Returns:
      (batch, draws), as `Bagel.forward` takes them.
    """
    import numpy as np

    (pixels,) = (lane for lane in pack.batch if lane.startswith("pixels:"))
    canvas = pixels.removeprefix("pixels:")
    lanes = {lane: {k: v[0] for k, v in fields.items()} for lane, fields in pack.batch.items()}
    pointer = "picture:" + canvas
    lanes["gen"]["raw_time"], lanes["gen"]["noise"] = pack.draws["time"][0], pack.draws["noise"][0]
    lanes[pixels]["normals"] = pack.draws["vae"][canvas][0]
    # Which sample a picture belongs to is known from the slots that show it.
    lanes[pixels]["sample"] = np.zeros(len(lanes[pixels]["pixels"]), np.int32)
    lanes[pixels]["sample"][lanes["gen"][pointer]] = lanes["gen"]["sample"]
    points_to = {("und", "vit"): "vit", ("labels", "slot"): "und", ("gen", "time"): "gen", ("gen", pointer): pixels}

    slots = {lane: [np.flatnonzero(f["sample"] == s) if s else np.zeros(0, int) for s in rows]
             for lane, f in lanes.items()}  # fmt: skip
    out = {}
    for lane, fields in lanes.items():
        longest = max(len(chosen) for chosen in slots[lane])
        budget = longest if lane == pixels else -(-longest // multiple) * multiple
        out[lane] = {}
        for name, values in fields.items():
            made = np.zeros((len(rows), budget, *values.shape[1:]), values.dtype)
            target = points_to.get((lane, name))
            for r, chosen in enumerate(slots[lane]):
                mine = values[chosen]
                if target:
                    place = np.full(len(lanes[target]["sample"]), -1)
                    place[slots[target][r]] = np.arange(len(slots[target][r]))
                    mine = np.where(mine >= 0, place[np.maximum(mine, 0)], mine)
                made[r, : len(chosen)] = mine
                if (lane, name) in (("und", "vit"), ("und", "token"), ("gen", pointer)):
                    made[r, len(chosen) :] = -1
            out[lane][name] = made
    draws = {"time": out["gen"].pop("raw_time"), "noise": out["gen"].pop("noise"),
             "vae": {canvas: out[pixels].pop("normals")}}  # fmt: skip
    del out[pixels]["sample"]
    return out, draws


def on_mesh(shape, devices, params, host):
    """The mesh, parameters on it by the table of training, and of host arrays [rows, ...] this process's share on it."""
    import jax
    import numpy as np

    from sgt_jax.parallel import partitioning

    mesh = partitioning.make_mesh(shape, devices)
    params = jax.tree.map(np.asarray, params)
    shardings = partitioning.tree_shardings(params, mesh)
    placed = jax.tree.map(
        lambda x, s: jax.make_array_from_callback(x.shape, s, lambda index: x[index]), params, shardings
    )
    own = np.asarray(partitioning.own_rows(len(jax.tree.leaves(host)[0]), mesh))
    return mesh, placed, partitioning.to_devices(jax.tree.map(lambda x: x[own], host), mesh)


def compiled(function, mesh, trained, *others):
    """`function` of these, which gives a number and a tree like `trained`, as a program of the mesh."""
    import jax

    whole = (jax.NamedSharding(mesh, jax.P()), jax.tree.map(lambda x: x.sharding, trained))
    with jax.set_mesh(mesh):
        return jax.jit(function, out_shardings=whole).lower(trained, *others).compile(QUICK)


def fetched(tree):
    """Whole NumPy arrays, of all processes."""
    import jax
    import numpy as np
    from jax.experimental import multihost_utils

    if jax.process_count() > 1:
        tree = jax.tree.map(lambda x: multihost_utils.process_allgather(x, tiled=True), tree)
    return jax.tree.map(np.asarray, tree)


class Golden:
    """The golden's model, its samples as rows, and the step that is compared."""

    def __init__(self, **changes):
        from sgt_jax.parity.bagel.folder import Folder

        self.folder = Folder(GOLDEN, **changes)
        self.batch, self.draws = spread(self.folder.pack)
        self.steps = {}  # compiled, by mesh

    def errors(self, shape, devices=None):
        """{"loss": relative error, "worst": largest gradient error relative to its array's largest entry, "array": its
        name, "arrays": how many were compared} on a mesh."""
        import jax
        import numpy as np

        from sgt_jax import trees
        from sgt_jax.parity.bagel.folder import FREEZE
        from sgt_jax.training.objectives import sgt

        folder = self.folder
        mesh, placed, (batch, draws) = on_mesh(shape, devices, folder.params, (self.batch, self.draws))
        trainable, frozen = trees.split_trainable(placed, FREEZE)

        def loss_of(trainable, frozen, batch, draws):
            outputs = folder.model.forward(trees.merge(trainable, frozen), batch, draws)
            return sgt.sgt_objective(outputs, batch, folder.loss_config)[0]

        if mesh not in self.steps:
            self.steps[mesh] = compiled(jax.value_and_grad(loss_of), mesh, trainable, frozen, batch, draws)
        loss, gradients = self.steps[mesh](trainable, frozen, batch, draws)
        found = folder.published(fetched(gradients))
        errors = {}
        for array, value in folder.expected.items():
            kind, _, name = array.partition("/")
            if kind not in ("grad", "gradnorm") or KEY_BIAS.match(name):
                continue
            got = found[name] if kind == "grad" else np.linalg.norm(found[name].astype(np.float64))
            errors[array] = float(np.max(np.abs(got - value)) / np.max(np.abs(value)))
        array = max(errors, key=errors.get)
        expected = float(folder.expected["loss_total"])
        return {"loss": abs(float(loss) - expected) / expected, "worst": errors[array], "array": array,
                "arrays": len(errors)}  # fmt: skip


def main(golden, shapes, coordinator="", processes="1", process="0"):
    """Prints a line a mesh shape; `golden` makes what is compared."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 8 // int(processes))
    if coordinator:
        jax.distributed.initialize(coordinator, int(processes), int(process))
    made = golden(scan_layers=True)
    for shape in json.loads(shapes):
        print(json.dumps(made.errors(shape)), flush=True)


if __name__ == "__main__":
    main(Golden, *sys.argv[1:])
