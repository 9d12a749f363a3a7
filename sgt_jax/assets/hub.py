"""Names on the model hub, hf://OWNER/NAME, and the commands that download published weights and data."""

import os
from typing import NamedTuple

from sgt_jax.errors import CheckpointError

SCHEME = "hf://"


class Published(NamedTuple):
    """Something that the hub holds: its id there, and its kind."""

    hub: str
    kind: str = "model"


# By the folder's name that configs and documents use. The ids are those of the cards; we have downloaded none of them.
PUBLISHED = {
    "BAGEL-7B-MoT": Published("ByteDance-Seed/BAGEL-7B-MoT"),
    "OmniGen2": Published("OmniGen2/OmniGen2"),
    "SGT-BAGEL": Published("Two-hot/SGT-BAGEL"),
    "SGT-Gen2": Published("Two-hot/SGT-Gen2"),
    "SAM-SGT": Published("Two-hot/SAM-SGT", "dataset"),
    "LLaVA-OneVision-Data": Published("lmms-lab/LLaVA-OneVision-Data", "dataset"),
}


def download_command(folder: str | os.PathLike) -> str:
    """The command that downloads what a folder of this name should hold; "" for a name that we do not know."""
    found = PUBLISHED.get(os.path.basename(os.fspath(folder).rstrip("/")))
    if found is None:
        return ""
    kind = "" if found.kind == "model" else f" --repo-type {found.kind}"
    return f"hf download {found.hub}{kind} --local-dir {os.fspath(folder)}"


def advice(folder: str | os.PathLike) -> str:
    """ "; download it: hf download ..." for a folder that is not there, or ""."""
    command = download_command(folder)
    return command and f"; download it: {command}"


def snapshot(address: str) -> str:
    """The local folder with the files of hf://OWNER/NAME or hf://OWNER/NAME@REVISION, downloaded if the cache lacks them.

    HF_HOME moves the cache, HF_HUB_OFFLINE=1 forbids to download.

    Raises:
      CheckpointError: no such name, no connection, or nothing in the cache while offline.
    """
    import huggingface_hub
    from huggingface_hub import errors

    name, _, revision = address.removeprefix(SCHEME).strip("/").partition("@")
    if name.count("/") != 1:
        raise CheckpointError(address, "is no name on the hub.", f"Write it as {SCHEME}OWNER/NAME.")
    try:
        return huggingface_hub.snapshot_download(name, revision=revision or None)
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, errors.HFValidationError, OSError, ValueError) as error:
        why = f"cannot be downloaded ({type(error).__name__}: {' '.join(str(error).split())[:160]})."
        raise CheckpointError(address, why, f"Download it where there is a connection: hf download {name}") from None
