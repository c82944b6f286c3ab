"""What the README shows is what works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from howsure.cli import app

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    # Fewer questions: what is tested is that each line works.
    assert "per_subject = 60" in code
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(code.replace("per_subject = 60", "per_subject = 4"), names)
    assert (tmp_path / "heatmap.png").stat().st_size > 10_000
    assert len(names["p"]) == 4 * 28  # type: ignore[arg-type]


def test_commands_and_options_exist() -> None:
    shown = re.findall(r"^howsure (\w+)((?:.|\\\n)*?)$", README.replace("\\\n", ""), re.MULTILINE)
    assert {command for command, _ in shown} == {"run", "score", "choose", "report"}
    for command, rest in shown:
        result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
        assert result.exit_code == 0
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in result.output


def test_files_that_it_names_exist() -> None:
    root = Path(__file__).resolve().parents[1]
    for path in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (root / path).exists(), path
