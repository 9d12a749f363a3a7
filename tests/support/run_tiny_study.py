"""A child process for tests: runs a study file at a tiny size, and kills itself where it is told to (a real SIGKILL)."""

import importlib.util
import os
import signal
import sys


def tiny_study(file: str):
    """The study that a config file describes, with two seeds, three arms and a model of one small layer."""
    from ml_collections import ConfigDict

    from tests.support import tiny_experiment as tiny

    spec = importlib.util.spec_from_file_location("study_file", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    study = module.get_config()
    base = tiny.config(total_steps=4, evaluate_at_start=False)
    base.checkpoint.every = 2
    base.data.mixture.proxy.options = ConfigDict(dict(style="plain"))
    base.evaluators = ConfigDict(
        dict(answers=dict(type="answers", source="held_out", n=16, train_source="train", train_n=16, max_new_tokens=2,
                          batch=16))
    )  # fmt: skip
    study.base = base
    study.seeds = (0, 1)
    own = study.name
    study.arms = ConfigDict(
        dict(base=dict(total_steps=0), sft=dict(data=dict(mixture=dict(proxy=dict(weight=0.0)))),
             **{own: study.arms[own].to_dict()})
    )  # fmt: skip
    study.favourite = own
    answers = dict(title="answers", evaluator="answers", item="accuracy", by="kind", of=())
    study.scores = ConfigDict(dict(vision=answers))
    study.understanding = study.columns = ("vision",)
    study.splits = ConfigDict(dict(answers="kind"))
    return study


def main(file: str, workdir: str, die: str) -> None:
    """`die` is "never", "keep" (the checkpoints, and never) or "ARM_SEED N": at step N of that run."""
    from sgt_jax.parallel.distributed import prepare_platform

    prepare_platform("cpu", 2)
    from sgt_jax.checkpoints import runs
    from sgt_jax.study import page
    from sgt_jax.study.run import run_study
    from sgt_jax.training.log import RunLog

    where, _, number = die.partition(" ")
    log, save = RunLog.scalars, runs.RunCheckpoints.save

    def scalars(self, step, values, kind="train"):
        log(self, step, values, kind)
        if number and kind == "train" and step == int(number) and f"/{where}" in str(self._workdir):
            os.kill(os.getpid(), signal.SIGKILL)

    def save_now(self, step, state, data_state):
        save(self, step, state, data_state)
        self.wait()  # as in a run whose steps take seconds

    RunLog.scalars, runs.RunCheckpoints.save = scalars, save_now
    results = os.path.join(workdir, "results")
    if run_study(tiny_study(file), workdir, results, keep=die == "keep"):
        print(page.build(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
