"""Parquet files that are not what they should be."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from howsure import strict_parquet
from howsure.errors import PredictionsError
from howsure.recorded import read_recorded


def written(table, old=b"", new=b""):
    """The file of a table, some bytes of which are others afterwards."""
    data = io.BytesIO()
    pq.write_table(table, data, compression="none", use_dictionary=False)
    return data.getvalue().replace(old, new) if old else data.getvalue()


def test_what_is_read(tmp_path):
    table = pa.table({"a": ["x", None], "k": [1, 2]}).replace_schema_metadata({"about": "it"})
    (tmp_path / "t.parquet").write_bytes(written(table))
    found = strict_parquet.read(tmp_path / "t.parquet", ("a", "k"))
    assert found.to_pydict() == table.to_pydict() and found.schema.metadata is None
    assert strict_parquet.read(tmp_path / "t.parquet", ("a", "k"), ["k"]).column_names == ["k"]
    assert strict_parquet.read_any(tmp_path / "t.parquet").equals(found)
    with pytest.raises(ValueError, match="it has the columns"):
        strict_parquet.read(tmp_path / "t.parquet", ("k", "a"))
    with pytest.raises(FileNotFoundError):
        strict_parquet.read_any(tmp_path / "none.parquet")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"wxyz", b"wx\xffz", "UTF"),  # a text
        (b"column_1", b"column\xff1", "codec can't decode"),  # a name
        (b"PAR1", b"PAR2", "magic"),
    ],
)
def test_damage_is_told_in_a_line(tmp_path, old, new, reason):
    (tmp_path / "t.parquet").write_bytes(written(pa.table({"column_1": ["wxyz"]}), old, new))
    with pytest.raises(ValueError, match=reason) as refused:
        strict_parquet.read_any(tmp_path / "t.parquet")
    assert "\n" not in str(refused.value)
    with pytest.raises(PredictionsError, match=r"t\.parquet can't be read as parquet"):
        read_recorded([tmp_path / "t.parquet"])


def test_what_stands_beside_the_columns_is_not_passed_on(tmp_path):
    """Polars panics over metadata that is no UTF-8."""
    rows = {"p_correct": [0.1, 0.9] * 20, "is_correct": [False, True] * 20}
    table = pa.table(rows).replace_schema_metadata({b"about": b"\xff\xfe"})
    (tmp_path / "t.parquet").write_bytes(written(table))
    assert read_recorded([tmp_path / "t.parquet"]).predictions[0].p_correct.size == 40
