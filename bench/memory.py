"""Whether memory grows with the number of questions: whole runs, each in a process of its own.

    python -m bench.memory --mmlu FOLDER

A small random model answers MMLU questions with five examples and is asked whether it is right,
once with about a thousand of them and once with all. The last line is one JSON object: the peak
until the last answer and estimate is there, above what the process held when the model had been
loaded and the questions read, in MiB.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

_ONE_RUN = """
import json, resource, sys, threading, time
from pathlib import Path
from howsure.run import RunSpec, run
from howsure import stages

def now():
    pages = int(open("/proc/self/statm").read().split()[1])
    return pages * resource.getpagesize() / 2**20

seen = []
load = stages.Worker._load
def loaded(self, unit, report):
    made = load(self, unit, report)
    if not seen:
        seen.append(now())
    return made
stages.Worker._load = loaded
folder, mmlu, limit, out = sys.argv[1:]
spec = RunSpec(output=Path(out), models=(folder,), questions="mmlu", data_dir=Path(mmlu),
               formats=("choice",), methods=("zero_shot",), calibrate="none",
               limit=int(limit) or None)
most, ended = [0.0], []
def watch():
    while not ended:
        most[0] = max(most[0], now())
        time.sleep(0.05)
thread = threading.Thread(target=watch)
thread.start()
module = sys.modules["howsure.run"]
collect = module._collect
def collected(done):
    ended.append(1)  # what comes after is the scores and the report
    return collect(done)
module._collect = collected
result = run(spec, at_once=1)
thread.join()
n = int(result.scores["n"].sum()) if "n" in result.scores.columns else 0
print(json.dumps({"loaded_mib": round(seen[0], 1), "peak_mib": round(most[0], 1), "n": n}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mmlu", type=Path, required=True, help="folder of the MMLU questions")
    parser.add_argument("--limits", type=int, nargs="+", default=[18, 0], help="a subject; 0: all")
    given = parser.parse_args()
    from transformers import AutoTokenizer

    import howsure
    from bench import body

    embedded = Path(howsure.__file__).parent / "embedded" / "tiny-llama-s"
    figures = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = body.make(
            Path(scratch) / "model", AutoTokenizer.from_pretrained(embedded), hidden=64, layers=2
        )
        for limit in given.limits:
            command = [sys.executable, "-W", "ignore", "-c", _ONE_RUN, str(folder)]
            command += [str(given.mmlu), str(limit), str(Path(scratch) / f"run{limit}")]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr.strip().splitlines()[-1])
            found = json.loads(done.stdout.strip().splitlines()[-1])
            found["above_mib"] = round(found["peak_mib"] - found["loaded_mib"], 1)
            figures[str(limit or "all")] = found
            print(limit or "all", found, flush=True)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
