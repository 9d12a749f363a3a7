"""The mechanism page: what `probe`, `embed`, `attention` and `align` found before and after tuning, as one HTML file.

The page needs only their files, so it can be built anywhere. Sections whose files are missing are left out, and the page says
which command makes them.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from sgt_jax.analysis.alignment import prediction
from sgt_jax.analysis.mechanism import changed, figures, over_runs
from sgt_jax.data.stored import atomic
from sgt_jax.errors import DataError
from sgt_jax.evaluation.statistics import LEVEL, Estimate
from sgt_jax.reporting import page
from sgt_jax.reporting.words import amount, gain, verdict
from sgt_jax.study import tables

PARTS = ("probe", "embed", "attention", "align")
OVER_RUNS = {"probe", "attention"}  # parts that --runs merges; maps and gradients before tuning stay the first run's
QUERIES = ("answer", "question")
BEFORE, AFTER = "before", "checkpoint"  # as in the files
RELIABLE = 0.3  # cosine of the mean gradients of two halves, below which a mean is mostly noise


class Cell(NamedTuple):
    """A cell of a heat map: its text, a colour of the page, how strong it is in percent, whether it stands out."""

    text: str
    colour: str
    strength: int
    certain: bool = False


class HeatMap(NamedTuple):
    """A table of cells with colours."""

    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]


def build(
    folder: str | os.PathLike,
    out: str | os.PathLike | None = None,
    *,
    study: str | os.PathLike | None = None,
    alignments: Sequence[str | os.PathLike] = (),
    runs: Sequence[str | os.PathLike] = (),
) -> Path:
    """Writes the page (default FOLDER/mechanism.html) and returns its path.

    Args:
      folder: what the four commands wrote, all or some of them, with --before.
      study: results of a study whose arms are proxies: alignment is then held against their gains.
      alignments: align.json files to read instead of the folder's.
      runs: folders of other runs of the same recipe; intervals are then over runs instead of over pictures.

    Raises:
      DataError: no such files, one that is damaged or made without --before, or a study that does not fit.
    """
    folder = Path(folder)
    contents = _of_runs([folder, *map(Path, runs)])
    if alignments:
        contents["align"] = {}
    if not contents:
        raise DataError(f"{folder}: holds none of {', '.join(f'{p}.json' for p in PARTS)}; see docs/analysis.md")
    align_files = [Path(p) for p in alignments] or ([folder / "align.json"] if "align" in contents else [])
    aligned = {str(path): load(path, "align") for path in align_files}
    text = render(contents, folder, aligned, tables.read_results(study) if study else None, runs=1 + len(runs))
    path = Path(out) if out else folder / "mechanism.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, text)
    return path


def _of_runs(folders: Sequence[Path]) -> dict[str, Any]:
    """Part -> its file, of the parts that the first folder has; those of attention and probes merged over all folders."""
    first = folders[0]
    contents = {name: load(first / f"{name}.json", name) for name in PARTS if (first / f"{name}.json").exists()}
    if len(folders) > 1:
        for name in OVER_RUNS & contents.keys():
            every = [load(folder / f"{name}.json", name) for folder in folders]
            contents[name] = over_runs.merged(every, folders, name)
    return contents


def load(path: Path, analysis: str) -> dict[str, Any]:
    """The content of one command's JSON file.

    Raises:
      DataError: it cannot be read, or is another command's, or one without --before where the page compares.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if not isinstance(content, dict) or content.get("analysis") != analysis:
        raise DataError(f"{path}: was not written by `python -m sgt_jax {analysis}`")
    if analysis != "align" and not content.get("options", {}).get("before"):
        raise DataError(f"{path}: was made without --before; the page compares two checkpoints")
    return content


def render(
    contents: Mapping[str, Any], folder: Path, aligned: Mapping[str, Any], study: tables.Results | None, runs: int = 1
) -> str:
    """The page as text.

    Args:
      contents: part -> its file, of the parts that there are.
      folder: where the pictures of `embed` are.
      aligned: path -> file, of all align.json files.
      study: results of a study of proxies, or None.
      runs: how many the numbers are of; with one there is no verdict on any change.
    """
    paper = page.paper_of("proxies")["mechanism"]
    anything = next((content for content in [*contents.values(), *aligned.values()] if content), {})
    attention = contents.get("attention", {})
    sections = dict(
        probe=separability(contents["probe"], runs) if "probe" in contents else None,
        embed=maps(contents["embed"], folder) if "embed" in contents else None,
        understanding=answering(attention["understanding"], paper, runs) if "understanding" in attention else None,
        generation=painting(attention["generation"], paper) if "generation" in attention else None,
        align=prediction_of_gains(aligned, study, paper) if aligned else None,
    )
    return page.render(
        "mechanism.html",
        **changed.lead(contents, runs),
        runs=runs,
        models={which: _short(anything["options"].get(key)) for which, key in (("before", BEFORE), ("after", AFTER))},
        **sections,
        said=[section["said"] for section in sections.values() if section and section.get("said")],
        absent=[name for name in PARTS if name not in contents],
        level=LEVEL,
    )


def _short(path: str | None) -> str:
    """The last part of a checkpoint's path, without the folder, which may be private."""
    return Path(path).name if path else "–"


# -- Separability ------------------------------------------------------------------------------------------------------


def separability(content: Mapping[str, Any], runs: int) -> dict[str, Any]:
    """Probe scores of every pair and feature before and after, and their paired changes."""
    pairs, verdicts = [], []
    for section in content["pairs"]:
        rows = []
        for feature, after in section[AFTER].items():
            change = Estimate.from_dict(section["change"][feature])
            verdicts.append(verdict(change))
            rows.append(
                dict(feature=feature, before=_estimate(section[BEFORE][feature]["accuracy"]),
                     after=_estimate(after["accuracy"]), change=change,
                     fisher=(section[BEFORE][feature]["fisher"], after["fisher"]),
                     silhouette=(section[BEFORE][feature]["silhouette"], after["silhouette"]),
                     separable=[_flag(s[feature]) for s in (section[BEFORE], section[AFTER])])
            )  # fmt: skip
        pairs.append(dict(name=section["pair"], classes=section["classes"], n=section["n"], rows=rows))
    better, worse, same = (verdicts.count(v) for v in ("better", "worse", "same"))
    spaces = f"Telling apart: of {len(verdicts)} feature spaces (pairs of classes: {len(pairs)})"
    if runs > 1:
        said = (
            f"{spaces}, a linear rule does better after tuning in {better}, worse in {worse}, and not distinguishably "
            f"otherwise in {same}; intervals are over {runs} runs."
        )
    else:
        values = sorted(row["change"].value for pair in pairs for row in pair["rows"])
        said = (
            f"{spaces}, the accuracy of a linear rule changes by {gain(values[0], '%')} to {gain(values[-1], '%')} points "
            f"(median {gain(float(np.median(values)), '%')}). One run, so no verdict on any of them."
        )
    return dict(pairs=pairs, said=said, count=len(verdicts))


def _flag(entry: Mapping[str, Any]) -> str:
    return ("trivially" if entry["trivial"] else "yes") if entry["separable"] else "no"


def maps(content: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The t-SNE maps that `embed` drew, with the scores of their probes in the pictures."""
    pictures = []
    for section in content["pairs"]:
        path = epath.Path(folder / f"embed_{section['pair'].replace(' ', '_')}.png")
        if not path.exists():
            raise DataError(f"{path}: is missing; embed.json speaks of it")
        pictures.append(dict(name=section["pair"], n=section["n"], picture=page.embedded_picture(path)))
    return dict(pictures=pictures)


# -- Attention ---------------------------------------------------------------------------------------------------------


def answering(content: Mapping[str, Any], paper: Mapping[str, Any], runs: int) -> dict[str, Any]:
    """Shares of attention on the picture and on the object asked about, by layer."""
    layers = [cell["layer"] for cell in content[AFTER]["answer"]["layers"]]
    columns, rows, things = [str(n) for n in layers], [], []
    names = {BEFORE: "before", AFTER: "after"}
    on_object: list[Estimate] = []  # changes of what answers give the object asked about
    for kind in QUERIES:
        for which, name in names.items():
            cells = content[which][kind]["layers"]
            rows.append((f"{kind}, {name}", _shares([_estimate(c["share"]) for c in cells])))
            things.append((f"{kind}, {name}", _shares([_estimate(c["object"]) for c in cells])))
        changes = [Estimate.from_dict(e) for e in content["change"][kind]]
        rows.append((f"{kind}, change", _changes(changes, runs)))
        moved = [e and Estimate.from_dict(e) for e in content["object_change"][kind]]
        if all(moved):
            things.append((f"{kind}, change", _changes(moved, runs)))
            on_object = moved if kind == "answer" else on_object
    answer = [Estimate.from_dict(e) for e in content["change"]["answer"]]
    return dict(
        share=HeatMap("Share of attention on the picture, percent; change, percent of what it was", columns, rows),
        object=HeatMap("Of that, on the object asked about, percent; change, points", columns, things),
        even=content[AFTER]["object_area"],
        paper=_paper_changes(paper["understanding"]),
        said=_said_of_answers(answer, on_object, layers, runs),
    )


def _said_of_answers(answer: Sequence[Estimate], on_object: Sequence[Estimate], layers: Sequence, runs: int) -> str:
    """What became of the attention of answer tokens: on the picture, and of that on the object asked about."""
    largest = max(range(len(layers)), key=lambda i: abs(answer[i].value))
    said = (
        f"Answering: the attention of answer tokens on the picture changes most in layer {layers[largest]}, by "
        f"{_signed(answer[largest])} %"
    )
    if runs == 1:
        return said + "; one run, so no verdict: other runs of a recipe have changed the other way."
    verdicts, certain = [verdict(e) for e in on_object], sum(verdict(e) != "same" for e in answer)
    said += f"; in {certain} of the {len(layers)} layers the interval of the change over {runs} runs excludes zero."
    if on_object:
        more, less = verdicts.count("better"), verdicts.count("worse")
        said += f" Of what goes to the picture, the object asked about gets more in {more} layers and less in {less}."
    return said


def _paper_changes(theirs: Mapping[str, Any]) -> HeatMap:
    """The paper's changes by layer, in percent."""
    top = max(abs(v) for _, values in theirs["rows"] for v in values)
    rows = [
        (arm, [Cell(gain(v / 100, "%"), _sign(v), _strength(v, top)) for v in values]) for arm, values in theirs["rows"]
    ]
    return HeatMap(theirs["title"], [str(n) for n in theirs["layers"]], rows)


def _shares(estimates: Sequence[Estimate | None]) -> list[Cell]:
    return [
        Cell("–", "--s1", 0) if e is None else Cell(f"{100 * e.value:.1f}", "--s1", _strength(e.value, 1.0))
        for e in estimates
    ]


def _changes(estimates: Sequence[Estimate], runs: int) -> list[Cell]:
    top = max(abs(e.value) for e in estimates)
    certain = [runs > 1 and verdict(e) != "same" for e in estimates]
    return [Cell(gain(e.value, "%"), _sign(e.value), _strength(e.value, top), c) for e, c in zip(estimates, certain)]


def _sign(value: float) -> str:
    return "--s1" if value >= 0 else "--s2"


def _strength(value: float, top: float) -> int:
    return round(50 * min(abs(value) / top, 1.0)) if top else 0  # percent; more would swallow the number


def painting(content: Mapping[str, Any], paper: Mapping[str, Any]) -> dict[str, Any]:
    """Shares of the painter's attention on kinds of words."""
    words = list(content[AFTER]["categories"])
    bars = {
        name: [_estimate(content[w]["categories"][c]) for c in words]
        for w, name in ((BEFORE, "before"), (AFTER, "after"))
    }
    theirs = paper["generation"]
    printed = {f"paper, {arm}": values for arm, values in theirs["rows"]}
    shift = {c: bars["after"][i].value - bars["before"][i].value for i, c in enumerate(words)}
    most = max(shift, key=lambda c: abs(shift[c]))
    said = (
        f"Painting: of the attention on the prompt's words, {most} words have "
        f"{amount(bars['before'][words.index(most)].value, '%')} before and "
        f"{amount(bars['after'][words.index(most)].value, '%')} after; no other kind moves more."
    )
    return dict(
        ours=figures.word_bars("Attention on kinds of words, percent", words, bars),
        paper=figures.plain_bars(theirs["title"], theirs["words"], printed),
        words=words,
        tokens=content[AFTER]["tokens"],
        per_token={w: content[w]["per_token"] for w in (BEFORE, AFTER)},
        all_keys={w: content[w]["all_keys"] for w in (BEFORE, AFTER)},
        said=said,
    )


# -- Alignment ---------------------------------------------------------------------------------------------------------


def prediction_of_gains(
    aligned: Mapping[str, Any], study: tables.Results | None, paper: Mapping[str, Any]
) -> dict[str, Any]:
    """Alignment of each proxy's gradient with understanding's before training, and what its arm then gained."""
    entries = prediction.merged(aligned)
    gains = prediction.gains(study, list(entries)) if study else {}
    rows = []
    for proxy, entry in sorted(entries.items(), key=lambda item: -item[1]["score"]):
        row = {"proxy": proxy, "score": entry["score"], "cosine": _estimate(entry["cosine"])}
        rows.append(row | {"reliability": entry["reliability"], "gain": gains.get(proxy)})
    first = next(iter(aligned.values()))
    section = dict(rows=rows, place=first["place"], n=first["n"], paper=paper["alignment"], said="")
    section |= dict(figure=None, correlations={})
    halves = min(e["reliability"][1] for e in entries.values())
    if halves < RELIABLE:
        section["said"] = (
            "Prediction: the mean gradient of the answers' loss is mostly noise here (two halves of its own pictures agree "
            f"with a cosine of {gain(halves)}), as on a model that has long been trained on answers, so no alignment "
            "with it means much; more pictures (align --n) may help. "
        )
    if not study:
        return section
    known = list(gains)
    y = [100 * gains[p].value for p in known]
    measures = {"score": [entries[p]["score"] for p in known], "cosine": [entries[p]["cosine"]["value"] for p in known]}
    section["correlations"] = {name: prediction.correlation(x, y) for name, x in measures.items()}
    reference = study.facts["references"][0]
    section["reference"] = reference
    section["figure"] = figures.gain_over_alignment(known, measures["score"], [gains[p] for p in known], reference)
    r = section["correlations"]["score"]
    section["said"] = (section["said"] or "Prediction: ") + (
        f"Over {r.n} proxies, the alignment of gradients before tuning and the gain in overall understanding over "
        f"{reference} correlate with r = {r.pearson:+.2f} (p = {r.p:.2g} by re-ordering the proxies)."
    )
    return section


def _estimate(entry: Mapping[str, Any] | None) -> Estimate | None:
    return None if entry is None else Estimate.from_dict(entry)


def _signed(e: Estimate) -> str:
    value, low, high = (gain(v, "%") for v in (e.value, e.low, e.high))
    return f"{value} ({low} to {high})"
