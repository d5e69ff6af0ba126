"""The page of an analysis of patterns: what a trace or a judge wrote is data, and the page is bounded in size."""

import json
import re

from spiral.reports.html.patterns_page import MAX_TEXT, MAX_TRACES, patterns_page

HOSTILE = "</script><script>alert(1)</script><!-- \u202e"


def trace(text, reason="so"):
    verdict = {"shown": {"a": True}, "reasons": {"a": reason}}
    return {"policy": "p", "name": "kuhn", "stage": 0, "step": 1, "text": text, "verdicts": [verdict, verdict]}


def shown(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])["shown"]


def test_what_models_and_judges_wrote_cannot_end_the_data():
    """Neither a tag nor a mark that turns the direction of writing comes through; the words do."""
    page = patterns_page({"rubric": []}, [trace(HOSTILE, HOSTILE)])
    assert page.count("<script") == 2
    assert "alert(1)" in page
    assert "\u202e" not in page
    [one] = shown(page)
    assert one["text"] == one["verdicts"][0]["reasons"]["a"] == HOSTILE.replace("\u202e", "\\u202e")


def test_a_long_text_is_shown_by_both_ends_and_its_length_is_told():
    [one] = shown(patterns_page({}, [trace("begin" + "x" * 1_000_000 + "end")]))
    assert one["chars"] == 1_000_008
    assert len(one["text"]) < MAX_TEXT + 100
    assert one["text"].startswith("begin")
    assert one["text"].endswith("end")


def test_of_many_traces_some_are_shown_from_all_over():
    texts = [int(one["text"]) for one in shown(patterns_page({}, [trace(str(n)) for n in range(5000)]))]
    assert len(texts) == MAX_TRACES
    assert texts == sorted(set(texts))
    assert texts[0] < 10
    assert texts[-1] > 4900


def test_the_same_record_gives_the_same_bytes():
    assert patterns_page({"b": 1}, [trace("x")]) == patterns_page({"b": 1}, [trace("x")])
