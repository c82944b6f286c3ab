"""Decisions as tests: who may import whom, what an import costs, which names are public."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import howsure

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCE = REPOSITORY / "src" / "howsure"

# The way of the data. Each module may import from those before it, and from its own folder.
ORDER = (  # noqa: SIM905
    "errors strict_json strict_parquet manifest notebook types grading questions prompts api heap "
    "lm graded asking answers judges methods "
    "calibrate metrics intervals agreement cells tables scores figures store report shards lock "
    "records spec plan estimate workers trainers cluster unit placement stages grader_check "
    "outcome grid scheduler progress status "
    "run recorded choose summary cli __main__"
).split()

# Library → the only places that may import it.
HOMES = {
    "torch": {"lm", "methods"},
    "accelerate": {"methods"},
    "transformers": {"lm"},
    "peft": {"lm"},
    "safetensors": {"lm", "methods"},
    "tokenizers": {"lm"},
    "sentencepiece": {"lm"},
    "huggingface_hub": {"lm", "questions"},
    "polars": {
        "types",
        "cells",
        "tables",
        "scores",
        "figures",
        "report",
        "run",
        "recorded",
        "summary",
    },
    "pyarrow": {"graded", "heap", "questions", "records", "strict_parquet", "tables"},
    "matplotlib": {"figures", "report"},
    "jinja2": {"report", "lm"},
    "inspect_ai": {"recorded"},
    "markupsafe": {"report"},
    "rich": {"progress", "summary", "choose", "estimate"},
    "typer": {"cli"},
    "ray": {"cluster"},
    "numpy": {
        *(
            "types",
            "answers",
            "judges",
            "lm",
            "methods",
            "calibrate",
            "metrics",
            "intervals",
            "agreement",
            "tables",
        ),
        *("scores", "figures", "report", "records", "outcome", "grid", "recorded", "choose"),
        "estimate",
    },
}

MODULES = sorted(SOURCE.rglob("*.py"))


def group(path: Path) -> str:
    """`figures/heatmap.py` → "figures", `run.py` → "run"."""
    inside = path.relative_to(SOURCE)
    return inside.parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Every imported module's full name, wherever in the file the import stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_each_module_imports_only_from_those_above_it(path):
    mine = group(path)
    if mine == "__init__":
        pytest.skip("the package itself names everything, and imports it when it is used")
    assert mine in ORDER, f"{mine} has no place in the way of the data; give it one in ORDER"
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "howsure" and len(parts) > 1 and parts[1] != mine:
            if parts[1] == "__version__":
                continue
            assert ORDER.index(parts[1]) < ORDER.index(mine), f"{path} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_each_library_has_its_place(path):
    mine = group(path)
    for name in imports(path):
        library = name.split(".")[0]
        if library in sys.stdlib_module_names or library == "howsure":
            continue
        assert library in HOMES, f"{path} imports {library}, which has no place in HOMES"
        assert mine in HOMES[library], f"{path} imports {library}"


def test_every_library_is_a_declared_dependency():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = [*project["dependencies"], *extras["lm"], *extras["hub"], *extras["inspect"]]
    declared += extras["ray"]
    names = {d.split(">")[0].split("=")[0] for d in declared}
    used = {n.split(".")[0] for path in MODULES for n in imports(path)}
    wanted = used - set(sys.stdlib_module_names) - {"howsure", "markupsafe"}  # jinja2's own
    assert wanted <= names, f"not in pyproject.toml: {wanted - names}"


def test_the_pinned_versions_are_within_the_declared_ranges():
    from packaging.requirements import Requirement

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pins = dict(line.lower().split("==") for line in lines if "==" in line)
    for text in (*project["dependencies"], *extras["lm"], *extras["dev"]):
        needed = Requirement(text)
        assert needed.specifier.contains(pins[needed.name.lower()]), text


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("howsure", {"numpy", "polars", "pyarrow", "torch", "typer", "rich"}),
        ("howsure.cli", {"numpy", "polars", "pyarrow", "torch", "matplotlib", "jinja2"}),
        ("howsure.spec", {"torch", "transformers", "peft", "polars", "matplotlib"}),
        ("howsure.run", {"torch", "transformers", "peft", "matplotlib", "jinja2"}),
        ("howsure.report", {"torch", "transformers", "peft"}),
        ("howsure.recorded", {"torch", "transformers", "peft", "matplotlib", "inspect_ai"}),
    ],
)
def test_importing_is_light(module, heavy):
    code = f"import sys, {module}; print(*sorted({heavy!r} & set(sys.modules)))"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout.split() == []


def test_public_names_are_pinned():
    assert set(howsure.__all__) == {
        *("METHODS", "Answer", "Calibrated", "Estimator", "GradedAnswer", "HowsureError"),
        *("Predictions", "Question", "UsageError", "__version__", "answer", "bars"),
        *("default_spec", "embedded_names", "fit", "fit_calibrator", "grade", "heatmap", "load"),
        *("open_set", "predictions", "quiz", "read_predictions", "read_scores", "reliability"),
        *("read_source", "risk_coverage", "score", "select", "spec_from", "statements"),
    }


def test_every_public_name_is_what_its_module_defines():
    homes = {name: module for module, names in howsure._HOME.items() for name in names}
    assert set(homes) == set(howsure.__all__) - {"__version__"}
    for name, module in homes.items():
        assert getattr(howsure, name) is getattr(import_module(f"howsure.{module}"), name)
    assert set(howsure.__all__) <= set(dir(howsure))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = howsure.nonsense


def test_the_changelog_names_this_version():
    assert f"## {howsure.__version__}" in (REPOSITORY / "CHANGELOG.md").read_text()
