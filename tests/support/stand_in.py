"""Plays gcloud, xpk, kubectl or sbatch under their names: writes down what it is asked, answers from a script.

STAND_IN is a folder. `asked.jsonl` gets a line {"program", "arguments", "stdin"} per call. `answers.json` holds
{words: [[what to print, exit status], ...]}: the first entry whose words all stand in the call answers, one of its answers
after the other, and the last for ever; a call that nothing matches prints nothing and succeeds.
"""

import json
import os
import sys
from pathlib import Path


def main() -> int:
    folder = Path(os.environ["STAND_IN"])
    stdin = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()
    call = {"program": Path(sys.argv[0]).name, "arguments": sys.argv[1:], "stdin": stdin}
    with open(folder / "asked.jsonl", "a") as file:
        file.write(json.dumps(call) + "\n")
    answers = json.loads((folder / "answers.json").read_text())
    said = " ".join([call["program"], *call["arguments"]])
    for words, replies in answers.items():
        if all(word in said for word in words.split()):
            text, status = replies.pop(0) if len(replies) > 1 else replies[0]
            (folder / "answers.json").write_text(json.dumps(answers))
            print(text)
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
