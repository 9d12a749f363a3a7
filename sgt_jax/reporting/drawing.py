"""What all figures of the reports share: matplotlib's SVG as an element of a page, in the page's colours."""

import io
import re
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Colours that matplotlib writes and that become CSS variables; the page has as many series colours.
INK, RULE = "#010203", "#010204"
VERDICTS = {"better": "#010205", "worse": "#010206", "same": "#010207", "": "#010208"}
_VARIABLES = {"better": "--good", "worse": "--bad", "same": "--neutral", "": "--accent"}
SERIES = [f"#0a000{n}" for n in range(1, 9)]


def style(title: str) -> dict[str, Any]:
    """matplotlib settings for drawings that become elements of a page; make the figure under `matplotlib.rc_context`."""
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": title,
        "text.color": INK,
        "font.size": 8.5,
        "axes.edgecolor": RULE,
        "axes.labelcolor": INK,
        "xtick.color": RULE,
        "ytick.color": RULE,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "grid.color": RULE,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
    }


def transparent_axes(width: float, height: float, **options: Any) -> Axes:
    """Axes of a new figure of this size in inches, through which the page's ground shows; `options` as add_subplot has."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_visible(False)
    axes = figure.add_subplot(**options)
    axes.patch.set_visible(False)
    return axes


def element(figure: Figure, title: str, label: str) -> str:
    """A figure as an `<svg>` element in the page's colours; `label` is for people who do not see it."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return _inline(text.getvalue(), title, label)


def _inline(svg: str, title: str, label: str) -> str:
    """Makes matplotlib's file an element of a page: no header, own ids, the page's colours and font."""
    svg = svg[svg.index("<svg") :]
    # matplotlib's <style> would hold for the whole page, and nothing refers to the groups' ids.
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"<g/>|\n\s*", lambda m: "" if m[0] == "<g/>" else "\n", svg)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", svg, count=1)
    prefix = re.sub(r"\W+", "-", title.lower()) + "-"
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}", svg)
    svg = svg.replace(INK, "var(--soft)").replace(RULE, "var(--rule)")
    for name, colour in VERDICTS.items():
        svg = svg.replace(colour, f"var({_VARIABLES[name]})")
    for number, colour in enumerate(SERIES, 1):
        svg = svg.replace(colour, f"var(--s{number})")
    svg = re.sub(r"font-family:[^;\"]*;? ?", "", svg)
    label = label.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1).strip()
