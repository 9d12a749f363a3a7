"""python -m sgt_jax.study --config=configs/study/NAME.py --workdir=DIR: runs a study and writes its report; see run.py.

--dry-run instead prints arms, seeds, gates, cost and the smallest effect that the study can see. --decide --results=DIR
checks the raw files against the config and prints the gates and the registered contrasts as they stand in the documents.
"""

import os
import sys

from absl import app, flags, logging
from etils import epath
from ml_collections import ConfigDict

from sgt_jax.errors import ConfigError, hint, one_line, unread
from sgt_jax.parallel.host_memory import begin_with_huge_pages
from sgt_jax.training import config_file


def main(argv: list[str]) -> None:
    """Runs what the flags say, and prints where the report is, or the results of a study that was stopped."""
    if len(argv) > 1:
        sys.exit(f"error: unexpected arguments {argv[1:]}; overrides look like --config.base.total_steps=100")
    options = flags.FLAGS
    study = options.config
    try:
        if "arms" not in study:
            raise ConfigError("--config is no study: train it with sgt train --config=... --workdir=...")
        if unknown := [name for name in options.only if name not in study.arms]:
            raise ConfigError(f"--only: no arm '{unknown[0]}'; {hint(unknown[0], study.arms, 'config.arms has')}")
        if options.figure and not options.decide:
            raise ConfigError("--figure draws what --decide finds: give both")
        if options.dry_run or options.decide:
            from sgt_jax.study import decide, forecast

            if options.dry_run:
                print(forecast.text(study), flush=True)
            else:
                print(decide.markdown(study, options.results or "", options.figure), flush=True)
        elif not options.workdir:
            raise ConfigError("a study needs --workdir=DIR, where its arms train; --dry-run and --decide do not")
        else:
            _run(study)
    except BrokenPipeError:
        sys.exit(unread())
    except Exception as error:
        words = one_line(error)
        if os.environ.get("SGT_TRACEBACK") or not words:
            raise
        sys.exit(f"error: {words}")


def _run(study: ConfigDict) -> None:
    """Runs the study and writes its report."""
    options = flags.FLAGS
    # JAX takes seconds to import: until then this line shows that something happens.
    print(f"{study.name}: loading (work directory {options.workdir})", flush=True)
    from sgt_jax.parallel.compiling import compilation_cache
    from sgt_jax.parallel.distributed import prepare_platform
    from sgt_jax.study import page, run

    logging.set_verbosity(logging.WARNING)
    prepare_platform(study.base.platform, study.base.cpu_devices)
    # Arms differ in their data more often than in their shapes: what one has compiled, the next one finds.
    compilation_cache(study.base.compilation_cache)
    results = epath.Path(options.results or os.path.join(options.workdir, "results"))
    ended = run.run_study(
        study, options.workdir, results, options.only, options.reuse, options.keep, options.steal_lock
    )
    print(page.build(results) if ended else results)


if __name__ == "__main__":
    begin_with_huge_pages()
    flags.DEFINE_string("config", None, "The study: a file of configs/study/; --config.NAME=VALUE overrides.")
    flags.DEFINE_string("workdir", None, "Where arms train; the same one resumes. Needed unless nothing is run.")
    flags.DEFINE_bool("dry_run", False, "Run nothing: print arms, seeds, gates, cost, smallest effect (--dry-run).")
    flags.DEFINE_bool("decide", False, "Run nothing: check --results, print gates and registered contrasts.")
    flags.DEFINE_string("figure", "", "With --decide: a PNG of the registered contrasts.")
    flags.DEFINE_string("results", None, "Folder of the results; default WORKDIR/results.")
    flags.DEFINE_list("only", [], "Names of arms to run now (default: all); the others wait for another call.")
    flags.DEFINE_list("reuse", [], "Results folders of other studies: runs of the same settings are taken from there.")
    flags.DEFINE_bool("keep", False, "Keep every run's last checkpoint, for sample, probe, attention and align.")
    flags.DEFINE_bool(
        "steal_lock", False, "Take an arm's work directory from a run that holds its lock (--steal-lock)."
    )
    flags.mark_flag_as_required("config")
    app.run(main, flags_parser=config_file.parse_flags)
