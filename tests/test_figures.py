"""Pictures are read back from their artists: right numbers, marks and words in the right place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import Collection, LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
from synthetic import SIX_METHODS, SIX_MODELS, make_predictions, make_scores, set_cell

from howsure import figures, metrics
from howsure.errors import PredictionsError
from howsure.figures import bars, heatmap, reliability, risk_coverage
from howsure.figures.heatmap import ece_scale
from howsure.figures.labels import method_order, model_labels, wrap
from howsure.figures.table import by_category, select
from howsure.questions.quiz import CATEGORIES
from howsure.scores import read_scores
from howsure.types import Predictions

PUBLISHED = Path(__file__).resolve().parents[2] / "shared" / "reference" / "kapoor2024_mmlu.csv"


@pytest.fixture(scope="module")
def scores() -> pl.DataFrame:
    return make_scores()


@pytest.fixture(scope="module")
def published() -> pl.DataFrame:
    if not PUBLISHED.exists():
        pytest.skip("the published table is not beside this checkout")
    return read_scores(PUBLISHED)


def axes_named(figure: Figure, label: str) -> Axes:
    return next(a for a in figure.axes if a.get_label() == label)


def by_gid(owner: Axes, gid: str) -> list[Artist]:
    return [a for a in owner.get_children() if a.get_gid() == gid]


def texts(figure: Figure) -> list[Text]:
    return [t for t in figure.findobj(Text) if isinstance(t, Text) and t.get_text().strip()]


def words(figure: Figure) -> list[str]:
    return [t.get_text() for t in texts(figure)]


def caption(figure: Figure) -> str:
    (text,) = (t for t in figure.texts if t.get_gid() == "caption")
    return " ".join(text.get_text().split())


def cell_values(figure: Figure, panel: str) -> np.ndarray:
    (cells,) = by_gid(axes_named(figure, panel), f"{panel}-cells")
    assert isinstance(cells, Collection)
    return np.asarray(cells.get_array())


def assert_all_inside(figure: Figure) -> None:
    """No text is cut off at the picture's border."""
    figure.draw_without_rendering()
    page = figure.bbox
    for text in texts(figure):
        if text.get_visible():
            box = text.get_window_extent()
            inside = box.x0 >= page.x0 and box.x1 <= page.x1 + 1
            inside = inside and box.y0 >= page.y0 and box.y1 <= page.y1 + 1
            assert inside, f"{text.get_text()!r} is cut off"


def assert_apart(labels: list[Text]) -> None:
    """No two of the texts overlap."""
    boxes = [(t.get_text(), t.get_window_extent()) for t in labels]
    for i, (one, a) in enumerate(boxes):
        for other, b in boxes[i + 1 :]:
            apart = a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 or b.y1 <= a.y0
            assert apart, f"{one!r} and {other!r} overlap"


# heatmap ---------------------------------------------------------------------------------------


def test_heatmap_shows_calibrated_ece_and_plain_auroc(scores: pl.DataFrame) -> None:
    figure = heatmap(scores)
    order = [(m, k) for m in ("model-a", "model-b") for k in ("zero_shot", "lora_prompt")]
    order = [c for m in ("model-a", "model-b") for c in [*order, (m, "likelihood")] if c[0] == m]
    for panel, calibration in (("ece", "temperature"), ("auroc", "none")):
        rows = scores.filter(pl.col("calibration") == calibration)
        found = {
            tuple(r[:3]): r[3] for r in rows.select("model", "method", "subject", panel).rows()
        }
        subjects = ("macro", "us_history", "addition", "clock")
        expected = [found[(*column, subject)] for subject in subjects for column in order]
        np.testing.assert_allclose(cell_values(figure, panel), expected)
        numbers = [t.get_text() for t in axes_named(figure, panel).texts]
        assert f"{expected[0]:.2f}".removeprefix("0") in numbers
    assert "ECE after temperature scaling; AUROC without scaling." in caption(figure)


def test_heatmap_names_everything(scores: pl.DataFrame) -> None:
    shown = words(heatmap(scores, categories={"us_history": "Past", "addition": "Sums"}))
    for label in ("model-a", "model-b", "Zero-shot", "LoRA+Prompt", "Likelihood", "Us history"):
        assert label in shown
    assert shown.count("30") >= 3  # n beside each subject
    # Headings come in the order of the categories, what they leave out under "Other".
    places = [shown.index(heading) for heading in ("Past", "Sums", "Other")]
    assert places == sorted(places)
    assert "ECE: lower is better\n(dark blue = good)" in shown
    assert "AUROC: higher is better, 0.5 = chance\n(dark blue = good)" in shown
    assert any("open-ended" in w for w in shown)


def test_heatmap_dark_is_good_and_chance_is_the_middle(scores: pl.DataFrame) -> None:
    figure = heatmap(scores)

    def shade(panel: str, value: float) -> float:
        (cells,) = by_gid(axes_named(figure, panel), f"{panel}-cells")
        assert isinstance(cells, Collection)
        return float(np.dot(cells.to_rgba(value)[:3], (0.2126, 0.7152, 0.0722)))

    falling = [shade("ece", v) for v in (0.3, 0.2, 0.1, 0.05, 0.0)]
    assert falling == sorted(falling, reverse=True)
    assert shade("auroc", 0.5) > max(shade("auroc", v) for v in (0.3, 0.45, 0.55, 0.7))
    rising = [shade("auroc", v) for v in (0.5, 0.6, 0.7, 0.8, 0.9)]
    assert rising == sorted(rising, reverse=True)


def test_heatmap_marks_ece_at_the_noise_floor(scores: pl.DataFrame) -> None:
    rows = scores.filter(pl.col("calibration") == "temperature", pl.col("subject") != "pooled")
    expected = rows.filter(pl.col("ece_low") <= pl.col("ece_floor")).height
    assert 0 < expected < rows.height
    figure = heatmap(scores)
    (dots,) = by_gid(axes_named(figure, "ece"), "ece-floor")
    assert isinstance(dots, Collection)
    assert len(dots.get_offsets()) == expected
    assert not by_gid(axes_named(figure, "auroc"), "auroc-floor")
    assert "noise floor" in caption(figure)


def test_heatmap_dot_lies_in_its_cell(scores: pl.DataFrame) -> None:
    where = {"model": "model-b", "method": "lora_prompt", "subject": "clock"}
    table = scores.with_columns(pl.lit(0.0).alias("ece_floor"))
    table = set_cell(table, where, "ece_floor", 1.0)
    figure = heatmap(table)
    axes = axes_named(figure, "ece")
    (dots,) = by_gid(axes, "ece-floor")
    (cells,) = by_gid(axes, "ece-cells")
    assert isinstance(dots, Collection)
    assert isinstance(cells, Collection)
    ((x, y),) = np.asarray(dots.get_offsets())
    labels = [t.get_position()[0] for t in axes.texts if t.get_text() == "LoRA+Prompt"]
    assert abs(x - labels[1]) < 0.2  # below the name of its method in the second model
    (name,) = (t for t in axes_named(figure, "subjects").texts if t.get_text() == "Clock")
    assert abs(y - name.get_position()[1]) < 0.1  # beside the name of its subject
    # Rows: macro, us_history, addition, clock; six columns; the cell is the last row's fifth.
    cx, cy = np.asarray(cells.get_offsets())[3 * 6 + 4]
    assert abs(x - cx) < 0.2
    assert abs(y - cy) < 0.1


def test_heatmap_hatches_what_is_empty(scores: pl.DataFrame) -> None:
    where = {"model": "model-a", "method": "lora_prompt", "subject": "clock"}
    figure = heatmap(set_cell(scores, where, "auroc", None))
    (empty,) = by_gid(axes_named(figure, "auroc"), "auroc-empty")
    assert isinstance(empty, Collection)
    assert len(empty.get_offsets()) == 1
    assert empty.get_hatch()
    assert len(cell_values(figure, "auroc")) == 4 * 6 - 1
    assert not by_gid(axes_named(figure, "ece"), "ece-empty")
    assert "Hatched grey: no value" in caption(figure)
    gone = scores.filter(~((pl.col("method") == "lora_prompt") & (pl.col("model") == "model-a")))
    lacking = gone.filter(~((pl.col("subject") == "clock") & (pl.col("method") == "zero_shot")))
    assert len(cell_values(heatmap(lacking), "ece")) == 4 * 5 - 2


def test_heatmap_sets_baselines_apart(scores: pl.DataFrame) -> None:
    figure = heatmap(scores)
    styles = {t.get_text(): t.get_style() for t in axes_named(figure, "ece").texts}
    assert styles["Likelihood"] == "italic"
    assert styles["LoRA+Prompt"] == "normal"
    (cells,) = by_gid(axes_named(figure, "ece"), "ece-cells")
    assert isinstance(cells, Collection)
    x = np.asarray(cells.get_offsets())[:3, 0]
    assert x[2] - x[1] > x[1] - x[0] + 0.01
    assert "plain baselines (Answer likelihood)" in caption(figure)


def test_one_picture_has_one_definition_of_ece(scores: pl.DataFrame) -> None:
    """Where a model has the decision kind only, all of the picture shows that kind and no floor."""
    figure = heatmap(set_cell(scores, {"model": "model-b"}, "ece", None))
    assert "ECE of the decision" in words(figure)
    calibrated = scores.filter(pl.col("calibration") == "temperature", pl.col("subject") == "macro")
    first = calibrated.row(0, named=True)["ece_decision"]
    assert cell_values(figure, "ece")[0] == pytest.approx(first)
    assert not by_gid(axes_named(figure, "ece"), "ece-floor")
    assert "without a noise floor" in caption(figure)


def test_a_picture_shows_one_format() -> None:
    table = make_scores(make_predictions(formats=("choice", "open", "essay")))
    assert figures.formats(table) == ["open", "choice", "essay"]
    assert any("open-ended" in w for w in words(heatmap(table)))
    chosen = heatmap(table, format="choice")
    assert any("multiple-choice" in w for w in words(chosen))
    macro = pl.col("subject") == "macro", pl.col("calibration") == "none"
    expected = table.filter(pl.col("format") == "choice", *macro)["auroc"][0]
    assert cell_values(chosen, "auroc")[0] == pytest.approx(expected)
    with pytest.raises(PredictionsError, match=r"no subject in format 'oral'.*open, choice, essay"):
        heatmap(table, format="oral")
    with pytest.raises(PredictionsError, match="nothing to draw"):
        heatmap(table.filter(pl.col("subject") == "macro"))


@pytest.mark.parametrize("calibrations", [("none",), ("isotonic",), ("none", "platt")])
def test_the_caption_says_which_calibration(calibrations: tuple[str, ...]) -> None:
    note = select(make_scores(make_predictions(calibrations=calibrations))).calibration_note()
    assert (
        note
        == {
            ("none",): "Both without scaling.",
            ("isotonic",): "Both after isotonic regression.",
            ("none", "platt"): "ECE after Platt scaling; AUROC without scaling.",
        }[calibrations]
    )


def test_the_caption_names_exceptions(scores: pl.DataFrame) -> None:
    plain = (pl.col("method") == "likelihood") & (pl.col("calibration") == "temperature")
    note = select(scores.filter(~plain)).calibration_note()
    assert "after temperature scaling (without scaling for Answer likelihood)" in note
    one = select(scores.filter(~(plain & (pl.col("model") == "model-b")))).calibration_note()
    assert "without scaling for Answer likelihood of model-b" in one


def test_published_table_draws_and_nothing_is_cut_off(published: pl.DataFrame) -> None:
    figure = heatmap(published, format="choice")
    assert len(cell_values(figure, "ece")) == 58 * 24
    assert len(cell_values(figure, "auroc")) == 58 * 24
    assert "ECE of the decision" in words(figure)
    assert "Llama-2-13b-hf" in words(figure)
    assert_all_inside(figure)
    assert_apart(list(axes_named(figure, "subjects").texts))
    assert_apart([t for t in axes_named(figure, "ece").texts if not t.get_text().startswith(".")])


def test_published_means_are_those_of_its_readme(published: pl.DataFrame) -> None:
    """Origin: the table of means in the readme beside the published data, to three decimals."""
    selection = select(published, "choice")
    for kind, expected in (("ece_decision", (0.173, 0.100, 0.109, 0.097)), ("auroc", ())):
        expected = expected or (0.542, 0.716, 0.704, 0.711)
        means = selection.values(kind, ["macro"])[0].reshape(6, 4).mean(axis=0)
        np.testing.assert_allclose(means, expected, atol=0.0005)


def test_a_full_run_is_stacked_and_nothing_is_cut_off() -> None:
    predictions = make_predictions(
        models=SIX_MODELS, methods=SIX_METHODS, subjects=list(CATEGORIES), n=4
    )
    figure = heatmap(make_scores(predictions), categories=CATEGORIES)
    tops = [axes_named(figure, panel).get_position().y0 for panel in ("ece", "auroc")]
    assert tops[0] > tops[1] + 0.3
    assert set(CATEGORIES.values()) <= set(words(figure))
    assert_all_inside(figure)
    assert_apart([t for t in axes_named(figure, "auroc").texts if t.get_rotation() == 90])


@pytest.mark.parametrize("names", [("m",), ("org/" + "very-long-name-" * 8, "x" * 90)])
def test_few_columns_and_long_names_fit(names: tuple[str, ...]) -> None:
    predictions = make_predictions(models=names, methods=("own method",), subjects=("only",))
    figure = heatmap(make_scores(predictions))
    assert_all_inside(figure)
    assert_apart([t for t in axes_named(figure, "ece").texts if t.get_weight() == "bold"])


HOSTILE = (
    "$x^{$",
    "a<b>&\"'",
    "<img src=x onerror=alert(1)>",
    "two\nlines\x07",
    "模型",
    "\\frac{1}",
)


def test_names_are_drawn_as_they_stand() -> None:
    """Neither mathematical notation, nor markup, nor control characters, nor strange letters."""
    predictions = make_predictions(models=HOSTILE, subjects=HOSTILE[:3], methods=("probe",))
    table = make_scores(predictions)
    pictures = (heatmap(table, categories=dict.fromkeys(HOSTILE, "$$")), bars(table))
    for figure in (*pictures, reliability(predictions), risk_coverage(predictions)):
        assert figures.png(figure).startswith(b"\x89PNG")
        drawing = figures.svg(figure)
        content = "".join("".join(ElementTree.fromstring(drawing).itertext()).split())
        assert b"<img" not in drawing
        for name in ("<imgsrc=xonerror=alert(1)>", "$x^{$", "twolines", "模型", "\\frac{1}"):
            assert name in content


def test_svg_is_the_same_every_time_and_text_stays_text(scores: pl.DataFrame) -> None:
    one, two = figures.svg(heatmap(scores)), figures.svg(heatmap(scores))
    assert one == two
    root = ElementTree.fromstring(one)
    found = [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"model-a", "Zero-shot", "Us history"} <= set(found)
    assert b"<dc:date>" not in one
    assert b"Verdana" in one
    named = heatmap(make_scores(make_predictions(models=("v 1.23456 x",))))
    assert b"v 1.23456 x" in figures.svg(named)  # only coordinates are rounded


def test_drawing_leaves_pyplot_and_settings_alone() -> None:
    code = (
        "import sys, matplotlib; matplotlib.rcParams['backend'] = 'svg';"
        "seen = lambda: {k: matplotlib.rcParams[k] for k in matplotlib.rcParams}; before = seen();"
        "from synthetic import make_scores; from howsure.figures import heatmap, png, svg;"
        "figure = heatmap(make_scores()); png(figure); svg(figure); assert seen() == before;"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    path = [str(Path(__file__).parent), str(Path(figures.__file__).parents[2])]
    subprocess.run([sys.executable, "-c", f"import sys; sys.path[:0]={path}; {code}"], check=True)


# bars ------------------------------------------------------------------------------------------


def test_bars_show_macro_with_intervals_and_floor(scores: pl.DataFrame) -> None:
    figure = bars(scores)
    assert len(figure.axes) == 4
    macro = scores.filter(pl.col("subject") == "macro", pl.col("model") == "model-a")
    for axes, name, calibration in (
        (figure.axes[0], "ece", "temperature"),
        (figure.axes[1], "auroc", "none"),
    ):
        row = macro.filter(pl.col("calibration") == calibration)
        tops = [bar.get_y() + bar.get_height() for bar in axes.patches]
        np.testing.assert_allclose(tops, row[name])
        (whiskers,) = by_gid(axes, "interval")
        assert isinstance(whiskers, LineCollection)
        ends = np.array([s[:, 1] for s in whiskers.get_segments()])
        np.testing.assert_allclose(ends[:, 0], row[f"{name}_low"])
        np.testing.assert_allclose(ends[:, 1], row[f"{name}_high"])
    (floor,) = by_gid(figure.axes[0], "floor")
    assert isinstance(floor, LineCollection)
    calibrated = macro.filter(pl.col("calibration") == "temperature")
    np.testing.assert_allclose([s[0, 1] for s in floor.get_segments()], calibrated["ece_floor"])
    (chance,) = by_gid(figure.axes[1], "chance")
    assert set(chance.get_ydata()) == {0.5}
    assert {"Zero-shot", "LoRA+Prompt", "model-a", "model-b"} <= set(words(figure))
    assert_all_inside(figure)


def test_bars_of_published_table(published: pl.DataFrame) -> None:
    figure = bars(published, format="open")
    assert len(figure.axes) == 12
    assert "intervals" not in caption(figure)
    assert "noise floor" not in caption(figure)
    assert "baselines" not in caption(figure)
    assert_all_inside(figure)


def test_a_missing_mean_is_named_none(scores: pl.DataFrame) -> None:
    where = {"model": "model-a", "method": "lora_prompt", "subject": "macro"}
    assert "none" not in words(bars(scores))
    assert words(bars(set_cell(scores, where, "auroc", None))).count("none") == 1


# reliability and risk-coverage -----------------------------------------------------------------


def test_reliability_shows_every_bin() -> None:
    predictions = make_predictions(n=60)
    figure = reliability(predictions)
    assert len(figure.axes) == 6
    shown = next(p for p in predictions if p.calibration == "temperature")
    bins = metrics.reliability(shown.p_correct, shown.is_correct)
    points = [
        (x, y)
        for gid in ("few", "many")
        for line in by_gid(figure.axes[0], gid)
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    ]
    np.testing.assert_allclose(sorted(points), sorted((b.mean_p, b.accuracy) for b in bins))
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    counts = [b.count for b in bins]
    np.testing.assert_allclose(np.array(heights) / max(heights), np.array(counts) / max(counts))
    ends = [
        tuple(s[:, 1])
        for gid in ("few-interval", "many-interval")
        for lines in by_gid(figure.axes[0], gid)
        for s in lines.get_segments()
    ]
    expected = sorted((b.accuracy_low, b.accuracy_high) for b in bins)
    np.testing.assert_allclose(sorted(ends), expected)
    assert "after temperature scaling" in caption(figure)
    assert_all_inside(figure)


def test_risk_coverage_ends_at_the_error_rate() -> None:
    predictions = make_predictions()
    figure = risk_coverage(predictions)
    assert len(figure.axes) == 2
    shown = predictions[0]
    (line,) = by_gid(figure.axes[0], "risk-zero_shot")
    wrong = 1.0 - shown.is_correct.mean()
    assert line.get_ydata()[-1] == pytest.approx(wrong)
    curve = metrics.risk_coverage(shown.p_correct, shown.is_correct)
    assert line.get_xdata()[0] == pytest.approx(20 / 90)
    assert line.get_ydata()[0] == pytest.approx(curve.risk[19])
    (best,) = by_gid(figure.axes[0], "perfect")
    assert np.all(
        line.get_ydata() >= np.interp(line.get_xdata(), best.get_xdata(), best.get_ydata()) - 0.01
    )
    assert_all_inside(figure)


def test_curves_take_what_there_is() -> None:
    one = Predictions(
        "m", "probe", "open", "none", ("a",), ("s",), np.array([0.3]), np.array([True])
    )
    for draw in (reliability, risk_coverage):
        assert figures.png(draw([one]))
        with pytest.raises(PredictionsError, match="nothing to draw"):
            draw([])
        with pytest.raises(PredictionsError, match="no predictions in format 'choice'"):
            draw([one], format="choice")


# words -----------------------------------------------------------------------------------------


def test_order_of_methods() -> None:
    given_order = ["subject_prior", "mine", "lora", "zero_shot", "mine"]
    assert method_order(given_order) == ["zero_shot", "lora", "mine", "subject_prior"]


def test_model_labels_stay_distinct() -> None:
    assert model_labels(["org/a", "org/b"]) == {"org/a": "a", "org/b": "b"}
    assert model_labels(["one/a", "two/a"]) == {"one/a": "one/a", "two/a": "two/a"}


def test_subjects_under_their_headings() -> None:
    groups = by_category(["z", "a", "b"], {"a": "One", "z": "Two", "b": "One", "unused": "Three"})
    assert groups == [("One", ["a", "b"]), ("Two", ["z"])]
    assert by_category(["z", "a"], {}) == [("", ["z", "a"])]


@given(
    st.text(st.characters(codec="ascii", exclude_categories=["C", "Z"]), min_size=1),
    st.integers(2, 30),
    st.integers(1, 4),
)
def test_wrap_fits_and_loses_nothing_silently(text: str, width: int, lines: int) -> None:
    done = wrap(text, width, len, lines)
    assert 1 <= len(done) <= lines
    assert all(len(line) <= width for line in done)
    assert "".join(done) == text or done[-1].endswith("…")


def test_the_scale_of_ece_is_wider_only_where_many_cells_are_beyond_it():
    few = np.array([[0.1, 0.2, 0.3, 0.9], [np.nan, 0.1, 0.1, 0.1]])
    many = np.array([[0.1, 0.4, 0.5, 0.9]])
    assert ece_scale(few) == (0.0, 0.3) and ece_scale(np.full((1, 2), np.nan)) == (0.0, 0.3)
    assert ece_scale(many) == pytest.approx((0.0, 0.9))
