"""Runs the code cells of a notebook in one namespace, as a kernel would: python -m tests.support.notebook FILE [--write]

No Jupyter is needed: a notebook is JSON, and ours hold plain Python. With --write what the cells print and draw is kept in
the notebook, as Jupyter would; otherwise it only says how long each cell took.
"""

import ast
import base64
import contextlib
import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def cells(notebook: Path) -> list[str]:
    """The code of every code cell, in order."""
    return ["".join(cell["source"]) for cell in _read(notebook)["cells"] if cell["cell_type"] == "code"]


def run(notebook: Path, change: Callable[[str], str] = lambda code: code) -> list[list[dict[str, Any]]]:
    """Runs all code cells; returns the outputs of each, in the notebook format's words.

    Args:
      change: what is done to the code of a cell before it runs.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    return [_outputs(change(code), f"{notebook.name}, cell {n}", names) for n, code in enumerate(cells(notebook), 1)]


def write(notebook: Path, outputs: list[list[dict[str, Any]]]) -> None:
    """Keeps the outputs of the code cells in the notebook, without the path of this clone."""
    content = _read(notebook)
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    for number, (cell, found) in enumerate(zip(code, outputs, strict=True), 1):
        cell.update(execution_count=number, outputs=found)
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    notebook.write_text(text.replace(f"{Path.cwd()}/", ""))


def _read(notebook: Path) -> dict[str, Any]:
    return json.loads(notebook.read_text())


def _outputs(code: str, name: str, names: dict[str, Any]) -> list[dict[str, Any]]:
    """Runs one cell: what it prints, its figures, and the value of its last expression."""
    began, printed, value = time.monotonic(), io.StringIO(), None
    tree = ast.parse(code, name)
    last = ast.Expression(tree.body.pop().value) if isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(printed), _figures() as figures:
        exec(compile(tree, name, "exec"), names)
        if last is not None:
            value = eval(compile(last, name, "eval"), names)
    print(f"{name}: {time.monotonic() - began:.1f} s")
    found = [{"output_type": "display_data", "metadata": {}, "data": {"image/png": picture}} for picture in figures]
    if printed.getvalue():
        found.insert(0, {"output_type": "stream", "name": "stdout", "text": printed.getvalue().splitlines(True)})
    if value is not None:
        data = {"text/plain": repr(value).splitlines(True)}
        found.append({"output_type": "execute_result", "metadata": {}, "execution_count": None, "data": data})
    return found


@contextlib.contextmanager
def _figures() -> Iterator[list[str]]:
    """The figures that matplotlib shows meanwhile, as PNGs in base64."""
    import matplotlib.pyplot as plt

    shown: list[str] = []

    def show() -> None:
        for number in plt.get_fignums():
            content = io.BytesIO()
            plt.figure(number).savefig(content, format="png", dpi=72)
            shown.append(base64.b64encode(content.getvalue()).decode())
        plt.close("all")

    before, backend = plt.show, plt.get_backend()
    plt.switch_backend("agg")
    plt.show = show
    try:
        yield shown
    finally:
        plt.show = before
        plt.switch_backend(backend)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    made = run(path)
    if "--write" in sys.argv:
        write(path, made)
