"""What `convert --push` adds: the card of a published folder, and its upload to the model hub."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from etils import epath

from sgt_jax.data.stored import atomic
from sgt_jax.data.stored.places import place
from sgt_jax.errors import ConfigError

CARD = "README.md"
_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def check_name(name: str) -> str:
    """A name on the hub. Raises ConfigError unless it is OWNER/NAME."""
    name = name.removeprefix("hf://")
    if not _NAME.fullmatch(name):
        raise ConfigError(f"--push {name}: write it as OWNER/NAME, such as me/SGT-mine")
    return name


def card_of(workdir: str | os.PathLike, weights: str, step: int) -> str:
    """The card of a run's weights of a step, from its config.json and results.json."""
    from sgt_jax.reporting.model_card import card

    folder = place(workdir)
    settings = json.loads((folder / "config.json").read_text())
    return card(settings, _read(folder / "results.json"), weights=weights, step=step)


def push(folder: str | os.PathLike, name: str, dry_run: bool, say: Callable[[str], Any] = print) -> None:
    """Uploads every file of a published folder to OWNER/NAME; with `dry_run` only says what would be uploaded."""
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    total = sum(path.stat().st_size for path in files)
    say(f"{'would upload' if dry_run else 'uploading'} to {name}: {len(files)} files, {total / 1e9:.3f} GB")
    for path in files:
        say(f"  {path.relative_to(folder)}  {path.stat().st_size / 1e6:.1f} MB")
    if dry_run:
        return
    import huggingface_hub
    from huggingface_hub import errors

    api = huggingface_hub.HfApi()
    try:
        api.create_repo(name, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="Written by sgt convert")
    except (errors.HfHubHTTPError, errors.LocalTokenNotFoundError, OSError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        raise ConfigError(f"--push {name}: not uploaded ({why}); log in with `hf auth login` and run it again") from None
    say(f"uploaded to {name}")


def write_card(folder: str | os.PathLike, text: str) -> None:
    """Puts the card into a published folder."""
    atomic.write_text(epath.Path(folder) / CARD, text)


def _read(path: epath.Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
