"""A small LLaVA-OneVision folder for tests, with records that are bad on purpose."""

from tests.support import hostile_files as hostile

TURNS = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cup."}]


def llava(root, count, bad=(), first=0):
    """JSON lines over `count` numbered pictures (modulo 32); the items in `bad` name a picture that is not there."""
    for number in range(min(count, 32)):
        hostile.write(root / f"images/{number}.jpg", hostile.numbered(number))
    items = [{"id": str(i + first), "image": "nowhere.jpg" if i in bad else f"{i % 32}.jpg", "conversations": TURNS}
             for i in range(count)]  # fmt: skip
    hostile.write(root / "annotations/all_data.jsonl", hostile.json_lines(items))
    return {"type": "llava_onevision", "root": str(root)}
