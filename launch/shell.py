"""Shared by all launchers: commands that are printed or run, and the command that starts training on a machine."""

import argparse
import difflib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

# Exit status of a run that was told to stop and has saved (sgt_jax.main --stopped_status): start it again.
STOPPED = 75


class LaunchError(RuntimeError):
    """An error that the user can correct; printed as one line."""


class Shell:
    """Runs commands of other programs, or only prints them.

    Attributes:
      dry_run: print every command that would be run, run none; questions are answered as if all went well.
    """

    def __init__(self, dry_run: bool = False) -> None:
        self.dry_run = dry_run

    def run(self, command: Sequence[str], stdin: str | None = None) -> int:
        """Shows and runs a command, its output on the terminal; returns its exit status."""
        print(f"+ {shlex.join(command)}" + (f" <<EOF\n{stdin}EOF" if stdin else ""), flush=True)
        if self.dry_run:
            return 0
        return self._start(command, input=stdin, text=True).returncode

    def must(self, command: Sequence[str], stdin: str | None = None) -> None:
        """`run`, or LaunchError if the command fails."""
        if status := self.run(command, stdin):
            raise LaunchError(f"{' '.join(command[:6])} ... ended with status {status}; see its message above")

    def ask(self, command: Sequence[str], dry_answer: str) -> str | None:
        """What a command prints, None if it fails; a dry run shows it and answers `dry_answer`."""
        if self.dry_run:
            print(f"+ {shlex.join(command)}", flush=True)
            return dry_answer
        found = self._start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        return found.stdout.strip() if found.returncode == 0 else None

    @staticmethod
    def _start(command: Sequence[str], **options: object) -> subprocess.CompletedProcess:
        if not shutil.which(command[0]):
            raise LaunchError(f"'{command[0]}' is not on PATH; install it, or use --dry-run to see what would be run")
        return subprocess.run(command, check=False, **options)


# -- Words -------------------------------------------------------------------------------------------------------------


def train_command(arguments: Sequence[str], python: str = "python3") -> list[str]:
    """The training on one machine; a run that is stopped ends with STOPPED."""
    return [python, "-m", "sgt_jax.main", f"--stopped_status={STOPPED}", *arguments]


def name(text: str) -> str:
    """A name that Google Cloud, Kubernetes and Slurm all take, as an argparse type."""
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", text):
        raise argparse.ArgumentTypeError(
            f"'{text}': use 1 to 40 small letters, digits and inner hyphens, a letter first"
        )
    return text


class Mount(argparse.Action):
    """--mount=gs://BUCKET/DIR=/mount/point, repeatable; collects (bucket, dir, point)."""

    def __call__(self, parser, namespace, values, option_string=None):
        found = re.fullmatch(r"gs://([^/=]+)/?([^=]*?)/?=(/[^=]+)", values)
        if not found:
            parser.error(f"{option_string} '{values}' must look like gs://BUCKET/DIR=/mount/point")
        setattr(namespace, self.dest, [*getattr(namespace, self.dest), found.groups()])


def mount_commands(bucket: str, folder: str, point: str, sudo: bool = True) -> list[str]:
    """Shell commands that mount a bucket, or a folder of it, for reading with gcsfuse; doing it twice is fine.

    Args:
      sudo: as root, for everybody on the machine; otherwise for this user, who must own the place.
    """
    root, options = (["sudo"], "ro,allow_other") if sudo else ([], "ro")
    part = ["--only-dir", folder] if folder else []
    make = shlex.join([*root, "mkdir", "-p", point])
    mount = shlex.join([*root, "gcsfuse", "-o", options, "--implicit-dirs", *part, bucket, point])
    return [make, f"{{ mountpoint -q {shlex.quote(point)} || {mount}; }}"]


# -- Command lines -----------------------------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """`argparse.ArgumentParser` with errors of one line that name what was probably meant."""

    def parse_args(self, args: Sequence[str] | None = None, namespace: object = None) -> argparse.Namespace:
        """As argparse has it; a misspelt option is found before one that is missing."""
        known = list(self._option_string_actions)
        for argument in sys.argv[1:] if args is None else args:
            option = argument.partition("=")[0]
            if argument == "--":
                break
            if option.startswith("--") and not any(name.startswith(option) for name in known):
                near = difflib.get_close_matches(option, known, n=1)
                self.error(f"no option {option}; " + (f"did you mean '{near[0]}'?" if near else "--help lists them"))
        return super().parse_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Leaves with status 2 and one line."""
        found = re.search(r"invalid choice: '?([^' ]*)'? \(choose from (.*)\)", message)
        near = difflib.get_close_matches(found[1], re.findall(r"[\w-]+", found[2]), n=1) if found else []
        self.exit(2, f"error: {' '.join(message.split())}" + (f"; did you mean '{near[0]}'?" if near else "") + "\n")


def base_parser(module: str, description: str) -> argparse.ArgumentParser:
    """A parser with the options that all launchers take."""
    made = Parser(prog=f"python -m sgt_jax.launch.{module}", description=description)
    made.add_argument("--dry-run", action="store_true", help="print every command, run none")
    return made


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The launcher's own arguments, and those behind "--", which are sgt_jax.main's."""
    arguments = list(arguments)
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


def check_train_arguments(arguments: Sequence[str]) -> None:
    """Raises LaunchError unless a config and a work directory are given."""
    for flag in ("--config", "--workdir"):
        if not any(argument.split("=")[0] == flag for argument in arguments):
            raise LaunchError(f"no {flag}: give the arguments of sgt_jax.main behind '--'")


def main(run: Callable[[list[str]], int]) -> None:
    """Runs a launcher with one-line errors."""
    try:
        sys.exit(run(sys.argv[1:]))
    except LaunchError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
