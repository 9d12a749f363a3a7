"""What the HTML pages share: pictures inside the page, assets, and writing in one piece."""

import base64
import io
import json
from typing import Any

import jinja2
import markupsafe
from etils import epath
from PIL import Image


def data_uri(path: epath.Path) -> dict[str, Any]:
    content = path.read_bytes()
    width, height = Image.open(io.BytesIO(content)).size
    uri = "data:image/png;base64," + base64.b64encode(content).decode()
    return {"uri": uri, "width": width, "height": height, "small": max(width, height) <= 64}


def asset(environment: jinja2.Environment, name: str) -> markupsafe.Markup:
    return markupsafe.Markup(environment.loader.get_source(environment, name)[0])


def write_text(path: epath.Path, text: str) -> None:
    """Writes beside and renames, so that a kill leaves the old file or the new one."""
    beside = path.parent / (path.name + ".tmp")
    beside.write_text(text)
    beside.replace(path)


def paper_of(name: str) -> dict[str, Any]:
    """What the paper says about a study of this name, and a note; of an unknown one, what it says about proxies."""
    paper = json.loads((epath.resource_path("sgt_jax") / "assets/report/paper.json").read_text())
    known = name if name in paper["notes"] else "proxies"
    tables = [table for table in paper["tables"] if known in table["studies"]]
    return paper | {"tables": tables, "note": paper["notes"][known]}
