"""Run by a Python that has lm-evaluation-harness: the log-probability of each letter.

    python harness_letters.py MODEL_FOLDER TASKS.json OUT.json

TASKS.json is a list of the harness's task configurations, OUT.json task → per question its letters'
log-probabilities, in the questions' order.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import lm_eval


def main(model: str, tasks: str, out: str) -> None:
    configs = json.loads(Path(tasks).read_text(encoding="utf-8"))
    found = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": model, "dtype": "float32", "add_bos_token": True},
        tasks=configs,
        num_fewshot=5,
        batch_size=8,
        device="cpu",
        bootstrap_iters=0,
    )
    made = {}
    for config in configs:
        samples = sorted(found["samples"][config["task"]], key=lambda s: s["doc_id"])
        made[config["task"]] = [[r[0][0] for r in s["resps"]] for s in samples]
    made["version"] = lm_eval.__version__
    Path(out).write_text(json.dumps(made), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
