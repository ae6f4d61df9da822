"""A task run, a retried one and a flow run may not grow by more than a tenth without anybody noticing. Counted, not timed: see benchmarks/hot_path.py."""

from __future__ import annotations

import sys

import pytest

from benchmarks import hot_path


@pytest.mark.timeout(300)
def test_a_piece_of_work_executes_no_more_than_it_did():
    before = hot_path.recorded()
    if not before:
        pytest.skip(f"nothing is recorded for Python {hot_path.VERSION}")
    if sys.gettrace() is not None or sys.getprofile() is not None:
        pytest.skip("something else counts already")
    problems = hot_path.grown(hot_path.counts(hot_path.FEWER), before)
    assert not problems, (
        f"{problems}\nIf it is worth that, say why in the commit and run `python -m benchmarks.hot_path --record`."
    )


def test_growth_is_told_by_name():
    before = {"off map": {"calls": 100.0, "instructions": 1000.0}}
    assert hot_path.grown({"off map": {"calls": 109.0, "instructions": 900.0}}, before) == []
    (problem,) = hot_path.grown({"off map": {"calls": 111.0, "instructions": 900.0}}, before)
    assert problem == "off map: 111 calls a piece of work, 100 before"
