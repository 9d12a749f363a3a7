"""What the HTML pages share: templates with their filters and style, pictures inside the page, the paper's numbers."""

import base64
import io
import json
from typing import Any

import jinja2
import markupsafe
import numpy as np
from etils import epath
from PIL import Image

from sgt_jax.assets import resource
from sgt_jax.reporting.words import amount, between, chance, clock, gain, integer, percent, sentence, top, verdict

_FILTERS = (amount, between, chance, clock, gain, integer, percent, sentence, top, verdict)


def render(template: str, **values: Any) -> str:
    """A self-contained page from a template of assets/report.

    The template sees `values`, the style sheet as `style`, and the functions of `words.py` as filters. Texts are escaped.

    Raises:
      jinja2.UndefinedError: the template uses a value that is not there.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(resource("package:report")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({function.__name__: function for function in _FILTERS})
    style, *_ = environment.loader.get_source(environment, "style.css")
    # Browsers do not unescape what stands in <style>, so the style sheet must not be escaped.
    return environment.get_template(template).render(style=markupsafe.Markup(style), **values)


def embedded_picture(path: epath.Path, side: int = 0) -> dict[str, Any]:
    """A PNG for a page: `uri` holds the file itself, `width` and `height` are in pixels, `small` asks for enlargement.

    With `side`, a larger picture is made so small that its longer side has that many pixels.
    """
    content = path.read_bytes()
    picture = Image.open(io.BytesIO(content))
    if side and max(picture.size) > side:
        picture.thumbnail((side, side))
        return embedded_array(np.asarray(picture))
    return _embedded(content, *picture.size)


def embedded_array(picture: np.ndarray) -> dict[str, Any]:
    """The same of a picture uint8 [H, W, 3]."""
    encoded = io.BytesIO()
    Image.fromarray(picture).save(encoded, format="PNG", optimize=True)
    return _embedded(encoded.getvalue(), picture.shape[1], picture.shape[0])


def _embedded(content: bytes, width: int, height: int) -> dict[str, Any]:
    uri = "data:image/png;base64," + base64.b64encode(content).decode()
    return {"uri": uri, "width": width, "height": height, "small": max(width, height) <= 64}


def paper_of(study: str) -> dict[str, Any]:
    """What the paper says about a study of this name, and a note; of an unknown one, what it says about proxies."""
    paper = json.loads(epath.Path(resource("package:report/paper.json")).read_text())
    known = study if study in paper["notes"] else "proxies"
    tables = [table for table in paper["tables"] if known in table["studies"]]
    return paper | {"tables": tables, "note": paper["notes"][known]}
