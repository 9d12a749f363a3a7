"""Runs on TPU and GPU node pools of a GKE cluster through XPK: mount buckets, submit a run, follow its log, delete it.

    python -m sgt_jax.launch.gke mount --cluster=C --project=P --zone=Z --mount=gs://BUCKET/data=/data
    python -m sgt_jax.launch.gke submit sgt-7b --cluster=C --project=P --zone=Z --tpu-type=v5p-16 --image=IMAGE \\
        -- --config=configs/bagel_7b_sgt.py --workdir=gs://BUCKET/runs/sgt-7b

IMAGE holds this repository, installed with the extra [tpu] or [cuda13]. A pod that is evicted saves and exits with a status
other than 0, and Kubernetes starts it again, up to --max-restarts times; the run continues from its last checkpoint.
"""

import argparse
import shlex
from collections.abc import Sequence

from sgt_jax.launch.shell import (
    LaunchError,
    Mount,
    Shell,
    base_parser,
    check_train_arguments,
    main,
    name,
    split_arguments,
    train_command,
)


def _where(options: argparse.Namespace) -> list[str]:
    return [f"--cluster={options.cluster}", f"--project={options.project}", f"--zone={options.zone}"]


def mount(shell: Shell, options: argparse.Namespace) -> None:
    """Mounts buckets read-only in every run of the cluster, through gcsfuse."""
    if not options.mount:
        raise LaunchError("no --mount=gs://BUCKET/DIR=/mount/point")
    for bucket, folder, point in options.mount:
        # Each folder is a file system of its own. The driver requires --size and ignores it.
        extra = [f"--mount-options=only-dir={folder},implicit-dirs" if folder else "--mount-options=implicit-dirs"]
        title = "-".join(point.strip("/").lower().replace("_", "-").split("/"))
        shell.must(
            ["xpk", "storage", "attach", title, *_where(options), "--type=gcsfuse", f"--bucket={bucket}",
             f"--mount-point={point}", "--readonly=true", "--size=1", "--auto-mount=true", *extra]
        )  # fmt: skip


def submit(shell: Shell, options: argparse.Namespace) -> None:
    """Submits the training."""
    check_train_arguments(options.arguments)
    if bool(options.tpu_type) == bool(options.device_type):
        raise LaunchError("give either --tpu-type (v5p-16, ...) or --device-type (h100-mega-80gb-8, ...)")
    if not options.image:
        raise LaunchError("--image is needed: a container image with this repository installed")
    if options.tpu_type:
        machines = [f"--tpu-type={options.tpu_type}", f"--num-slices={options.nodes}"]
    else:
        machines = [f"--device-type={options.device_type}", f"--num-nodes={options.nodes}"]
    shell.must(
        ["xpk", "workload", "create", f"--workload={options.name}", *_where(options), *machines,
         f"--docker-image={options.image}", f"--max-restarts={options.max_restarts}", f"--priority={options.priority}",
         f"--command={shlex.join(train_command(options.arguments))}"]
    )  # fmt: skip


def log(shell: Shell, options: argparse.Namespace) -> None:
    """Follows the log of the first pod, the one that writes."""
    region = options.zone.rsplit("-", 1)[0]
    shell.must(
        ["gcloud", "container", "clusters", "get-credentials", options.cluster, f"--project={options.project}",
         f"--location={region}"]
    )  # fmt: skip
    first = f"jobset.sigs.k8s.io/jobset-name={options.name},batch.kubernetes.io/job-completion-index=0"
    shell.must(["kubectl", "logs", "--follow", f"--selector={first}", "--tail=-1"])


def status(shell: Shell, options: argparse.Namespace) -> None:
    """Lists the training and its state."""
    shell.must(["xpk", "workload", "list", *_where(options), f"--filter-by-job={options.name}"])


def delete(shell: Shell, options: argparse.Namespace) -> None:
    """Deletes the training."""
    shell.must(["xpk", "workload", "delete", f"--workload={options.name}", *_where(options)])


COMMANDS = {"mount": mount, "submit": submit, "log": log, "status": status, "delete": delete}


def parser() -> argparse.ArgumentParser:
    """The options of the launcher."""
    flags = base_parser("gke", __doc__.split("\n")[0])
    flags.add_argument("command", choices=COMMANDS)
    flags.add_argument("name", type=name, nargs="?", help="name of the run")
    flags.add_argument("--cluster", required=True)
    flags.add_argument("--project", required=True)
    flags.add_argument("--zone", required=True)
    flags.add_argument("--tpu-type", help="v5p-16, v6e-16, v5litepod-32, ...")
    flags.add_argument("--device-type", help="XPK's name of a GPU machine")
    flags.add_argument("--nodes", type=int, default=1, help="slices, or GPU machines")
    flags.add_argument("--image", help="container image with this repository installed")
    flags.add_argument("--max-restarts", type=int, default=50)
    flags.add_argument("--priority", default="medium")
    flags.add_argument("--mount", action=Mount, default=[], metavar="gs://BUCKET/DIR=/POINT", help="data, read-only")
    return flags


def run(arguments: Sequence[str]) -> int:
    """The command."""
    own, train = split_arguments(arguments)
    options = parser().parse_args(own)
    options.arguments = train
    if options.command != "mount" and not options.name:
        raise LaunchError(f"{options.command} needs the NAME of a training")
    COMMANDS[options.command](Shell(options.dry_run), options)
    return 0


if __name__ == "__main__":
    main(run)
