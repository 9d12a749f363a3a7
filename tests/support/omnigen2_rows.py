"""OmniGen2's recorded step in several rows, and how far a mesh's loss and gradients are from the recorded ones.

As a program (`python -m tests.support.omnigen2_rows '[{"data": 8}, ...]' [COORDINATOR PROCESSES PROCESS]`) it prints one line
of JSON per mesh shape, in one process with 8 virtual devices or in one of several that have 8 together.
"""

import sys

from tests.support import paths
from tests.support.golden_rows import compiled, fetched, main, on_mesh

GOLDEN = paths.GOLDEN / "omnigen2"
# Where the recorded micro-batch stands; its copies leave means as they are, and the other rows are empty.
FILLED, ROWS = (0, 2, 3, 4, 7), 8
CUT = 4  # lanes are padded to a multiple, so that axis "context" can cut them up


class Golden:
    """The golden's model, its rows, and the step that is compared."""

    def __init__(self, **changes):
        from sgt_jax.parity.omnigen2 import training
        from sgt_jax.parity.omnigen2.batches import stacked
        from sgt_jax.parity.omnigen2.folder import Folder

        self.folder = Folder(GOLDEN, **changes)
        self.shared = training.setup(self.folder)
        rows = [self.shared.joint if row in FILLED else None for row in range(ROWS)]
        slots = {lane: -(-n // CUT) * CUT for lane, n in self.shared.slots.items()}
        self.batch = stacked(rows, [*self.shared.loop, self.shared.joint], slots)

    def errors(self, shape, devices=None):
        """{"loss": relative error, "worst": largest error of a gradient or of gradients' norms beside its bound (1 is at
        the bound of the golden's README), "array": its name, "arrays": how many were compared} on a mesh."""
        import jax

        from sgt_jax.checkpoints.exporting import published_arrays
        from sgt_jax.models.omnigen2.mllm.names import mllm_names
        from sgt_jax.parity.omnigen2 import training
        from sgt_jax.parity.omnigen2.answers import gradient_checks
        from sgt_jax.parity.omnigen2.flow import norms
        from sgt_jax.training.objectives import sgt

        folder, shared = self.folder, self.shared
        mesh, placed, batch = on_mesh(shape, devices, shared.params, self.batch)
        model = training._Replayed(shared.config)

        def loss(params, batch):
            return sgt.loss(params, batch, jax.random.key(0), model, settings=training.OBJECTIVE)[0]

        value, found = compiled(jax.value_and_grad(loss), mesh, placed, batch)(placed, batch)
        found = fetched(found)
        file, order = training.JOINT, folder.json("param_order.json")["dit"]
        dit = published_arrays(found["dit"], folder.dit_names)
        checks = [folder.check("joint_step", file, "dit.grad_norms", norms(dit, order))]
        mllm = published_arrays(found["mllm"], mllm_names(shared.config))
        checks += gradient_checks(folder, "joint_step", file, mllm, "mllm.")
        worst = max(checks, key=lambda check: check.error / check.bound)
        expected = float(folder.arrays(file)["loss"])
        return {"loss": abs(float(value) - expected) / expected, "worst": worst.error / worst.bound,
                "array": worst.array, "arrays": len(checks)}  # fmt: skip


if __name__ == "__main__":
    main(Golden, *sys.argv[1:])
