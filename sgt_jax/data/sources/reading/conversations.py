"""LLaVA-style items, pictures with a conversation: converts one item of JSON or parquet to a Record, or says why it cannot.

    {"id": "17", "image": "General/a.jpg" | ["a.jpg", "b.jpg"] | null, "video": ["f0.jpg", "f1.jpg"],
     "conversations": [{"from": "human", "value": "<image>\\nWhat is this?"}, {"from": "gpt", "value": "A cup."}, ...]}

"images", "videos" and "messages" mean the same, as do turns of "role" and "content", whose content may be a list of texts
and pictures.

A `<image>` in a human turn stands for one picture, in order over the whole conversation. If tags and pictures
disagree, the item is a bad record of a kind of its own; no picture is dropped silently.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sgt_jax.data.examples import Turn
from sgt_jax.data.sources.reading import cells, files
from sgt_jax.data.stored.record import BadRecord, Record
from sgt_jax.errors import DataError

IMAGE_TAG, VIDEO_TAG = "<image>", "<video>"
ROLES = {"human": "user", "user": "user", "system": "user", "gpt": "assistant", "assistant": "assistant"}
_PICTURES = ("image", "img", "picture", "photo", "video")
VIDEO_SUFFIXES = (".mp4", ".webm", ".avi", ".mkv", ".mov", ".gif")
PICTURE_KEYS, VIDEO_KEYS, TURN_KEYS = (
    ("image", "images"),
    ("video", "videos"),
    ("conversations", "messages", "conversation"),
)
KEPT = ("id", "category", "dataset", "data_source")  # goes to `extra` where an item has it


@dataclasses.dataclass(frozen=True)
class Reading:
    """How items are read.

    Attributes:
      untagged: a conversation about pictures without any tag: "bad", or "first", which shows the pictures first.
      max_frames: of a video's frames, at most so many, evenly spread (BAGEL draws 8 to 12).
      upright: turn the pictures as their EXIF orientation says.
    """

    untagged: str = "bad"
    max_frames: int = 12
    upright: bool = True

    def __post_init__(self) -> None:
        if self.untagged not in ("bad", "first"):
            raise DataError(f"untagged={self.untagged!r}: choose 'bad' or 'first'")
        if self.max_frames < 1:
            raise DataError(f"max_frames={self.max_frames} must be at least 1")

    def record(self, name: str, item: Any, pictures: Sequence[bytes], frames: int = 0) -> Record:
        """The record of an item whose pictures are at hand; the last `frames` of them are a video's.

        Raises:
          BadRecord: no conversation, nothing to supervise, or tags and pictures disagree.
        """
        turns = [_turn(name, turn) for turn in _list_of_turns(name, item)]
        if frames:
            turns = _with_frames(turns, frames)
        if not any(turn.role == "assistant" and turn.text.strip() for turn in turns):
            raise BadRecord("no answer", f"{name}: no turn from gpt with text, so nothing to supervise; remove it")
        tags = sum(turn.text.count(IMAGE_TAG) for turn in turns if turn.role == "user")
        if tags != len(pictures) and (tags or self.untagged == "bad"):
            kind = "more tags than pictures" if tags > len(pictures) else "more pictures than tags"
            advice = "; untagged='first' shows the pictures before the first turn" if not tags else ""
            reason = f"{name}: {tags} {IMAGE_TAG} tags in human turns for {len(pictures)} pictures; correct the item"
            raise BadRecord(kind, reason + advice)
        extra = {key: item[key] for key in KEPT if isinstance(item.get(key), str | int)}
        return Record(name, tuple(pictures), turns=tuple(turns), upright=self.upright, extra=extra)

    def from_files(self, name: str, item: Any, folder: Path, passed_over: Counter) -> Record:
        """The record of an item that names its pictures as files below `folder`.

        `passed_over` counts keys that say nothing to us.

        Raises:
          BadRecord: also where a file is missing, empty, or outside the folder, or a key may hold pictures but is none
            that we know.
        """
        item, inline = _usual(name, item, passed_over)
        paths = _paths(name, item, "image")
        frames = self._frames(name, _paths(name, item, "video"), folder)
        if paths and inline:
            raise BadRecord("bad item", f"{name}: has pictures under 'image' and within its turns; keep one")
        paths = paths or inline
        if paths and frames:
            raise BadRecord("bad item", f"{name}: has both 'image' and 'video', so their order is open; keep one")
        pictures = [cells.picture(path, name, (folder,)) for path in [*paths, *frames]]
        return self.record(name, item, pictures, len(frames))

    def from_cells(self, name: str, item: Mapping[str, Any], folders: Sequence[Path], passed_over: Counter) -> Record:
        """The record of a row of a table whose cells hold the pictures, or paths below one of `folders`.

        Raises:
          BadRecord: as `from_files`.
        """
        item, inline = _usual(name, {key: value for key, value in item.items() if value is not None}, passed_over)
        if item.get("video"):
            raise BadRecord("encoded video", f"{name}: a video in a table; extract its frames as 'images'")
        cell = item.get("image")
        entries = cell if isinstance(cell, list) else [] if cell is None else [cell]
        return self.record(name, item, [cells.picture(entry, name, folders) for entry in entries or inline])

    def _frames(self, name: str, paths: Sequence[str], folder: Path) -> list[str]:
        """Frame files of a video: a list of pictures, or a folder of them."""
        if len(paths) == 1 and files.inside(folder, paths[0]).is_dir():
            found = files.files_below(files.inside(folder, paths[0]), files.PHOTO_SUFFIXES)
            if not found:
                raise BadRecord("missing picture", f"{name}: the video folder {folder / paths[0]} holds no pictures")
            paths = [f"{paths[0].rstrip('/')}/{frame}" for frame in found]
        if encoded := [path for path in paths if path.lower().endswith(VIDEO_SUFFIXES)]:
            advice = "extract frames (ffmpeg -i VIDEO frame_%04d.jpg) and list them, or their folder, under 'video'"
            raise BadRecord("encoded video", f"{name}: {encoded[0]} is a video file; {advice}")
        if len(paths) <= self.max_frames:
            return list(paths)
        step = (len(paths) - 1) / max(self.max_frames - 1, 1)
        return [paths[round(i * step)] for i in range(self.max_frames)]


def check_unknown(name: str, key: str) -> None:
    """Refuses a key or column that is not known and may hold pictures.

    Raises:
      BadRecord: it may.
    """
    if any(word in key.lower() for word in _PICTURES):
        raise BadRecord("unknown key", f"{name}: the key '{key}' may hold pictures but is not read; call it 'image', or "
                        "remove it")  # fmt: skip


def _usual(name: str, item: Any, passed_over: Counter) -> tuple[dict[str, Any], list[Any]]:
    """An item with the usual keys "image", "video" and "conversations", and the pictures within its turns."""
    if not isinstance(item, Mapping):
        raise BadRecord("bad item", f"{name}: not an object with 'conversations' but {type(item).__name__}")
    found = {key: item[key] for key in item if key in KEPT}
    for usual, keys in (("image", PICTURE_KEYS), ("video", VIDEO_KEYS), ("conversations", TURN_KEYS)):
        given = {key: item[key] for key in keys if not _nothing(item.get(key))}
        if len(given) > 1:
            raise BadRecord("bad item", f"{name}: has the keys {', '.join(given)}, which mean the same; keep one")
        found[usual] = next(iter(given.values()), item.get(usual) if usual == "conversations" else None)
    for key in item.keys() - {*KEPT, *PICTURE_KEYS, *VIDEO_KEYS, *TURN_KEYS}:
        if _nothing(item[key]):
            continue
        if not isinstance(item[key], int | float):  # "image_width" is no picture
            check_unknown(name, str(key))
        passed_over[f"keys '{key}'"] += 1
    inline: list[Any] = []
    if isinstance(found["conversations"], list):
        found["conversations"] = [_usual_turn(name, turn, inline) for turn in found["conversations"]]
    return found, inline


def _nothing(value: Any) -> bool:
    """Whether a value stands for none: null, "", "None", an empty list or one of such."""
    if isinstance(value, list):
        return all(map(_nothing, value))
    return value is None or (isinstance(value, str) and value.strip().lower() in cells.NOTHING)


def _usual_turn(name: str, turn: Any, inline: list[Any]) -> Any:
    """A turn with "from" and "value"; pictures in its content go to `inline`, a tag stands in their place."""
    if not isinstance(turn, Mapping) or ("from" in turn and "value" in turn):
        return turn
    role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
    if isinstance(content, list):
        pieces = []
        for piece in content:
            match piece:
                case str(text) | {"type": "text", "text": str(text)}:
                    pieces.append(text)
                case {"type": "image" | "image_url", **rest}:
                    given = rest.get("image") or rest.get("image_url") or rest.get("url") or rest.get("path")
                    given = given.get("url") if isinstance(given, Mapping) and "url" in given else given
                    inline += [given] if given else []  # without one, the next of the item's own
                    pieces.append(IMAGE_TAG)
                case _:
                    raise BadRecord(
                        "bad turn", f"{name}: a part of a turn must be a text or an image, not {piece!r:.120}"
                    )
        content = "".join(pieces)
    return {"from": role, "value": content}


def _paths(name: str, item: Mapping[str, Any], key: str) -> list[Any]:
    """The paths under `key`: none, one, or several; a picture may also be {"path": ...} or base64."""
    value = item.get(key)
    if _nothing(value):
        return []
    paths = value if isinstance(value, list) else [value]
    paths = [path.get("path") or path.get("bytes") if isinstance(path, Mapping) else path for path in paths]
    if not all(isinstance(path, str) and not _nothing(path) for path in paths):
        raise BadRecord("bad item", f"{name}: '{key}' must be a path, a list of paths, or null, not {value!r:.80}")
    return paths


def _list_of_turns(name: str, item: Any) -> list[Any]:
    turns = item.get("conversations")
    if not isinstance(turns, list) or not turns:
        raise BadRecord("no conversation", f"{name}: 'conversations' must be a list of turns, not {turns!r:.80}")
    return turns


def _turn(name: str, turn: Any) -> Turn:
    match turn:
        case {"from": str(role), "value": str(text)} if role in ROLES:
            return Turn(ROLES[role], text)
    wanted = "{'from': 'human' or 'gpt', 'value': text}"
    raise BadRecord("bad turn", f"{name}: a turn must be {wanted}, not {turn!r:.120}")


def _with_frames(turns: Sequence[Turn], frames: int) -> list[Turn]:
    """One tag per frame in place of the video's tag, which some data sets write as that of a picture."""
    told = "".join(turn.text for turn in turns if turn.role == "user")
    tag = VIDEO_TAG if VIDEO_TAG in told else IMAGE_TAG if told.count(IMAGE_TAG) == 1 else None
    if tag is None:
        return list(turns)
    return [t._replace(text=t.text.replace(tag, IMAGE_TAG * frames)) if t.role == "user" else t for t in turns]
