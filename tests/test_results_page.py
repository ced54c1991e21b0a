"""The page of results shows the figures that are kept beside it."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import results_tables

from reasonedit.errors import InputError


def figure(row, metric, mean, difference=None, low=None, high=None):
    return {
        "row": row,
        "title": f"title of {row}",
        "metric": metric,
        "mean": mean,
        "difference": difference,
        "difference_low": low,
        "difference_high": high,
    }


@pytest.fixture
def figures(tmp_path):
    lines = [
        figure("k1", "gen", 0.8125, -0.0375, -0.1, 0.0),
        figure("k1", "all", 1.0, 0.02, 0.0049, 0.03),
        figure("k5", "gen", 0.85),
        figure("k5", "all", 0.0),
        figure("k8", "all", 0.9, -0.01),
    ]
    pq.write_table(pa.Table.from_pylist(lines), tmp_path / "k.parquet")
    return tmp_path


def test_every_marked_table_of_the_page_is_as_its_figures_have_it():
    text = results_tables.PAGE.read_text()
    assert results_tables.fill(text, results_tables.PAGE.parent / "results") == text
    kept = {path.stem for path in (results_tables.PAGE.parent / "results").glob("*.parquet")}
    shown = {match["name"] for match in results_tables._MARKED.finditer(text)}
    assert shown == kept
    assert text.count("<!-- table ") == len(list(results_tables._MARKED.finditer(text)))  # none is misspelt


def test_a_table_is_made_from_its_figures_and_the_text_around_it_stays(figures):
    text = "before\n<!-- table k | k5 k1 | gen all- all -->\nold\n<!-- end -->\nafter\n"
    assert results_tables.fill(text, figures) == (
        "before\n<!-- table k | k5 k1 | gen all- all -->\n"
        "| | Gen | All, difference | All |\n"
        "| --- | --- | --- | --- |\n"
        "| title of k5 | .850 | | .000 |\n"
        "| title of k1 | .812 | +.020 [.005, .030] | 1.000 |\n"
        "<!-- end -->\nafter\n"
    )


def test_a_difference_without_an_interval_stands_without_one(figures):
    text = results_tables.fill("<!-- table k | k8 | all- -->\n<!-- end -->", figures)
    assert "| title of k8 | -.010 |" in text


def test_a_row_without_figures_is_refused(figures):
    with pytest.raises(InputError, match=r"'k\.parquet' does not have the row 'k3'"):
        results_tables.fill("<!-- table k | k3 | gen -->\n<!-- end -->", figures)
