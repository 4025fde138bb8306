"""The summary of the copy that predicts."""

from small_runs import small

from poster_ada.model.fast import prediction_copy
from poster_ada.model.poster import Poster
from poster_ada.model.summary import component_table, summary_table


def test_the_summary_of_the_fast_copy_is_the_models():
    model = Poster(small("faces").model).eval()
    fast = prediction_copy(model, "float32")
    outputs = [(row.component, row.output) for row in component_table(fast)]
    assert outputs == [(row.component, row.output) for row in component_table(model)]
    assert "total" in summary_table(fast) and "FastPoster" in repr(fast)
