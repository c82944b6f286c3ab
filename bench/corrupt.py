"""Whether damage to a stored file is ever taken for what was written.

    python -m bench.corrupt --flips 1000

One small run is made, with every kind of file that howsure keeps. Then each kind is damaged: cut
off at every boundary of a Parquet page, of a record and at some other places; and one bit flipped,
at random. Each time the file is read as howsure reads it. What comes back is right (the damage is
in a byte that means nothing), refused, or, what must never be, silently wrong. The last line is one
JSON object: tried, refused, right, silently_wrong; how many kinds of files, and which were wrong.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from bench import killed
from howsure import manifest, methods
from howsure.api import Client, Server
from howsure.errors import HowsureError
from howsure.lm import load
from howsure.report.inputs import read_source
from howsure.shards import Shards

Read = Callable[[], Any]
"""What howsure has of a file; None where it says that there is nothing; raises when it refuses."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--flips", type=int, default=1000, help="bits in all; default 1000")
    parser.add_argument("--seed", type=int, default=0, help="of the bits; default 0")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(compare(Path(scratch), given.flips, random.Random(given.seed))))


def compare(scratch: Path, flips: int, rng: random.Random) -> dict[str, Any]:
    """The figures, as the last line shows them; a line for each kind on the way."""
    kinds = list(files_of(scratch))
    by_kind: dict[str, Counter[str]] = {}
    each = -(-flips // len(kinds))
    for kind in kinds:
        whole = kind.path.read_bytes()
        before = repr(kind.read())
        if before == repr(None):
            raise SystemExit(f"{kind.path} can't be read as it was written")
        found: Counter[str] = Counter(tried=0, refused=0, right=0, silently_wrong=0)
        for what, damaged in (*cuts(kind.path, whole, rng), *bits(whole, each, rng)):
            found["tried"] += 1
            found[outcome(kind, damaged, before, what)] += 1
            restore(kind, whole)
        if repr(kind.read()) != before:
            raise SystemExit(f"{kind.path} could not be put back, so its figures mean nothing")
        by_kind[kind.name] = found
        print(f"{kind.name:24} {len(whole):8} bytes: {dict(found)}", flush=True)
    total = sum(by_kind.values(), Counter[str]())
    names = ("tried", "refused", "right", "silently_wrong")
    wrong = [name for name, found in by_kind.items() if found["silently_wrong"]]
    return {name: total[name] for name in names} | {"kinds": len(kinds), "wrong_in": wrong}


@dataclass(frozen=True)
class Kind:
    """A kind of stored file, one of it, and how it is read."""

    name: str
    path: Path
    read: Read
    beside: Mapping[str, bytes]
    """The other files of its folder, in case reading takes the folder away."""


def outcome(kind: Kind, damaged: bytes, before: bytes, what: str) -> str:
    """What becomes of a damaged file."""
    kind.path.write_bytes(damaged)
    try:
        with redirect_stderr(io.StringIO()):
            after = kind.read()
    except HowsureError:
        return "refused"
    if after is None:
        return "refused"
    if repr(after) == before:
        return "right"
    print(f"{kind.name}: {kind.path} is silently wrong after {what}", flush=True)
    return "silently_wrong"


def restore(kind: Kind, whole: bytes) -> None:
    """Everything as it was: a damaged shard may have been taken away."""
    kind.path.parent.mkdir(parents=True, exist_ok=True)
    for name, data in kind.beside.items():
        if not (kind.path.parent / name).exists():
            (kind.path.parent / name).write_bytes(data)
    kind.path.write_bytes(whole)


def cuts(path: Path, whole: bytes, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """The file, cut off at each boundary and at some other places."""
    places = {0, 1, len(whole) // 2, len(whole) - 1, *(rng.randrange(len(whole)) for _ in range(5))}
    places |= {i + 1 for i, byte in enumerate(whole[:4000]) if byte == ord("\n")}
    if path.suffix == ".parquet":
        places |= boundaries(path)
    for place in sorted(p for p in places if p < len(whole)):
        yield f"a cut at byte {place}", whole[:place]


def boundaries(path: Path) -> set[int]:
    """Where the pages and column chunks of a Parquet file begin and end."""
    found = {4}
    with pq.ParquetFile(path) as file:
        for group in range(file.metadata.num_row_groups):
            for column in range(file.metadata.num_columns):
                chunk = file.metadata.row_group(group).column(column)
                starts = [chunk.data_page_offset, chunk.dictionary_page_offset]
                begin = min(s for s in starts if s)
                found |= {s for s in starts if s} | {begin + chunk.total_compressed_size}
    return found


def bits(whole: bytes, count: int, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """The file with one bit flipped."""
    for _ in range(count):
        place, bit = rng.randrange(len(whole)), rng.randrange(8)
        damaged = bytearray(whole)
        damaged[place] ^= 1 << bit
        yield f"bit {bit} of byte {place} flipped", bytes(damaged)


# the files ----------------------------------------------------------------------------------------


def files_of(scratch: Path) -> Iterator[Kind]:
    """One of each kind."""
    output = scratch / "run"
    killed.main(output, 1)
    root = output / ".store"
    store = Shards(root, recompute=False)
    for stage in ("answers", "grades", "readings", "estimators", "predictions"):
        folder = largest(root / stage)
        for path in sorted(folder.iterdir()):
            yield kind(f"{stage}/{path.name}", path, lambda s=stage, f=folder: shard(store, s, f))
    unfinished = store.unfinished("00" * 32)
    unfinished.save(random.Random(0).randbytes(5000))
    yield kind("checkpoint", unfinished.path, unfinished.load)
    client = Client(Server("m", "http://127.0.0.1:9/v1"), cache=scratch / "replies")
    client._keep("00" * 32, "yes, \u00e9\u4e2d")
    reply = next((scratch / "replies").glob("*/*.json"))
    yield kind("reply", reply, lambda: client._kept("00" * 32))
    for name in (*manifest.check(output / ".manifest.json")["files"], ".manifest.json"):
        yield kind(f"run/{name}", output / name, lambda: tables(output))
    lm = load("tiny-llama-s")
    for bundle in sorted((output / "estimators" / "open" / "tiny-llama-s").iterdir()):
        for path in sorted(bundle.iterdir()):
            yield kind(f"{bundle.name}/{path.name}", path, lambda b=bundle: estimator(b, lm))


def kind(name: str, path: Path, read: Read) -> Kind:
    beside = {p.name: p.read_bytes() for p in path.parent.iterdir() if p.is_file()}
    return Kind(name, path, read, beside if len(beside) < 10 else {})


def largest(stage: Path) -> Path:
    """The stage's shard with the most bytes."""
    folders = [m.parent for m in stage.glob("*/*/manifest.json")]
    return max(folders, key=lambda f: (sum(p.stat().st_size for p in f.iterdir()), f.name))


def shard(store: Shards, stage: str, folder: Path) -> Any:
    found = store.find(stage, folder.name)
    return found and {
        **{
            p.name: p.read_bytes() for p in store.open(found).iterdir() if p.name != "manifest.json"
        },
        "about": dict(found.about),
        "digest": found.digest,
        "seconds": found.seconds,
    }


def tables(output: Path) -> Any:
    source = read_source(output)
    said = [
        (p.model, p.method, p.calibration, p.format, p.p_correct.tobytes(), p.is_correct.tobytes())
        for p in source.predictions
    ]
    return source.scores.write_csv(), said, source.run_card, source.questions


def estimator(bundle: Path, lm: Any) -> Any:
    made = methods.load(bundle, lm)
    try:
        tensors = lm.adapters.snapshot(made.adapter) if hasattr(made, "adapter") else []
        head = made.head.state_dict() if hasattr(made, "head") else {}
        state = {k: v.numpy().tobytes() for k, v in head.items()}
        calibrator = (bundle / "calibrator.json").read_bytes()
        return [t.numpy().tobytes() for t in tensors], state, repr(made.spec), calibrator
    finally:
        methods.release(made)


if __name__ == "__main__":
    main()
