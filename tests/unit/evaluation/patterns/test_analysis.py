"""An analysis against a scripted judge: what it sees, what its verdicts come to, and each way in which it can fail."""

import json
import os
import signal
import threading

import pytest

from spiral.api.errors import RunError, SpiralError
from spiral.evaluation.patterns.judges import FAILURES_IN_A_ROW
from spiral.testing import ChatAnswer


@pytest.fixture
def run(make_run, said):
    """20 replies: at steps 0 to 9 plain ones, at steps 10 to 19 ones that go through cases."""
    texts = [said.plain] * 10 + [said.cases] * 10
    return make_run("mine", [(step, "kuhn_poker", f"{text} {step}") for step, text in enumerate(texts)])


def shares(record, key="cells"):
    """{(steps, name): {pattern: (shown, judged)}} of the record's cells."""
    return {
        (row["steps"], row["name"]): {entry["pattern"]: (entry["shown"], entry["judged"]) for entry in row["patterns"]}
        for row in record[key]
    }


# What a judge sees


def test_a_judge_sees_a_text_and_the_rubric_and_nothing_of_where_it_is_from(run, make_bench, judge, analyse, said):
    """Neither file nor step, game, benchmark, model or prompt; and no order from which it could tell."""
    bench = make_bench("b", {"SmolLM2": None}, [("SmolLM2", "math500", f"q{n}", f"so {n}", 1.0) for n in range(20)])
    server = judge()
    analyse(server, run, bench, stages=2)
    for request in server.requests:
        seen = json.dumps(request).lower()
        assert not [
            word for word in ("kuhn", "math500", "smollm2", "mine", "step", "episodes", "bench") if word in seen
        ]
    order = [said.text_of(request).startswith("so ") for request in server.requests[::2]]
    assert order not in (sorted(order), sorted(order, reverse=True))


def test_each_trace_is_asked_about_in_two_wordings(run, judge, analyse, said):
    server = judge()
    record, traces = analyse(server, run)
    assert [reading["wording"] for reading in record["readings"]] == ["descriptions", "questions"]
    assert len(server.requests) == 2 * len(traces) == 40
    asked = {(said.text_of(request), request["messages"][0]["content"][:20]) for request in server.requests}
    assert len(asked) == 40


def test_two_judges_are_asked_in_one_wording(run, judge, analyse, said):
    """What they differ in is then the judges' alone: one that says yes to everything, and one that reads."""
    yes = {f"P{n}": {"reason": "yes", "shown": True} for n in (1, 2, 3)}
    servers = judge(), judge(lambda request: json.dumps(yes))
    record, _ = analyse(None, run, stages=2, judges=[f"remote:model=any,url={server.url}" for server in servers])
    assert [len(server.requests) for server in servers] == [20, 20]
    assert {request["messages"][0]["content"] for server in servers for request in server.requests} == {
        servers[0].requests[0]["messages"][0]["content"]
    }
    found = shares(record)["10-19", "kuhn_poker"]
    assert found["case by case analysis"] == (10, 10)
    assert found["pattern recognition"] == (0, 10)
    [cases, *_] = record["cells"][-1]["patterns"]
    assert cases["by_reading"] == [1.0, 1.0]
    assert record["agreement"][0]["agreement"] == 0.5


def test_the_same_judge_twice_and_more_than_two_are_refused(run, judge, analyse):
    """Its two answers would be one, and their agreement would say nothing."""
    url = judge().url
    for words, says in (
        ([f"remote:model=any,url={url}"] * 2, "whose answers would be the same"),
        (["a"] * 3, "3 judges"),
    ):
        with pytest.raises(SpiralError, match=says):
            analyse(None, run, judges=words)


def test_a_bot_that_answers_no_chat_is_no_judge(run, analyse):
    with pytest.raises(SpiralError, match="random is a bot that plays and answers no chat"):
        analyse(None, run, judges=["random"])


def test_texts_that_are_alike_are_asked_about_once(make_run, judge, analyse):
    """A small model says the same words again and again; every trace has the verdict all the same."""
    server = judge()
    record, traces = analyse(server, make_run("a", [(0, "kuhn", "bet")] * 30), num=30)
    assert len(server.requests) == 2
    assert record["judged"] == len(traces) == 30


# What verdicts come to


def test_shares_are_told_by_stage_and_game_and_change_from_first_to_last(run, judge, analyse, said):
    record, _ = analyse(judge(), run, stages=2)
    assert shares(record) == {
        ("0-9", "kuhn_poker"): {said.paper[0]: (0, 10), said.paper[1]: (0, 10), said.paper[2]: (0, 10)},
        ("10-19", "kuhn_poker"): {said.paper[0]: (10, 10), said.paper[1]: (0, 10), said.paper[2]: (0, 10)},
    }
    late = record["cells"][1]["patterns"][0]
    assert (late["share"], late["low"], late["high"]) == (1.0, pytest.approx(0.7225, abs=1e-4), 1.0)  # Wilson, 10 of 10
    [change] = record["changes"]
    assert (change["domain"], change["from"], change["to"]) == ("game", "0-9", "10-19")
    assert change["patterns"][0] == {
        "pattern": said.paper[0], "share": 1.0, "low": pytest.approx(0.6075, abs=1e-4), "high": 1.0,
    }  # fmt: skip


def test_games_stand_against_tasks_at_the_same_stage(run, make_bench, judge, analyse, said):
    """The transfer matrix: at the end all games go through cases, and half of the tasks do."""
    texts = [said.cases, said.cases, said.plain, said.value]
    replies = [(f"{run}@19", "math500", f"q{n}", text, 1.0) for n, text in enumerate(texts)]
    record, _ = analyse(judge(), run, make_bench("b", {f"{run}@19": 19}, replies), stages=2)
    early, late = record["transfer"]
    assert [entry["difference"] for entry in early["patterns"]] == [None] * 3
    cases, value, _ = late["patterns"]
    assert (cases["games"]["share"], cases["tasks"]["share"], cases["difference"]["share"]) == (1.0, 0.5, -0.5)
    assert (value["games"]["share"], value["tasks"]["share"]) == (0.0, 0.25)
    assert cases["difference"]["low"] < -0.5 < cases["difference"]["high"]


def test_a_trace_shows_a_pattern_where_both_readings_say_so(make_run, judge, analyse, said):
    """One wording says yes to all, the other to none: no share, an agreement of 0, and each reading's own share."""

    def answer(request):
        yes = (
            "is one text" in request["messages"][0]["content"] or "given one text" in request["messages"][0]["content"]
        )
        return json.dumps({key: {"reason": "so", "shown": yes} for key in said.patterns_of(request)})

    record, _ = analyse(judge(answer), make_run("a", [(0, "kuhn", f"{n}") for n in range(4)]))
    for entry in record["cells"][0]["patterns"]:
        assert (entry["shown"], entry["judged"], entry["by_reading"]) == (0, 4, [1.0, 0.0])
    assert [row["agreement"] for row in record["agreement"]] == [0.0] * 3
    assert [row["kappa"] for row in record["agreement"]] == [0.0] * 3


def test_patterns_of_a_users_rubric_are_judged_beside_the_papers(run, judge, analyse, tmp_path, said):
    (tmp_path / "own.yaml").write_text("patterns: [{name: luck, description: 'speaks of luck, whether likely or not'}]")
    record, traces = analyse(judge(), run, rubrics=(tmp_path / "own.yaml",))
    assert [pattern["name"] for pattern in record["rubric"]] == [*said.paper, "luck"]
    assert set(traces[0]["verdicts"][0]["shown"]) == {*said.paper, "luck"}


# Answers that are no verdict


def test_nonsense_is_asked_again_with_the_reason_and_then_counts_as_no_verdict(make_run, judge, analyse, said):
    """The first trace's second answer is a verdict, the second trace's never is; the others are counted without it."""
    tries = {"slow": 0}

    def answer(request):
        text = request["messages"][1]["content"]
        if "hopeless" in text:
            return "I would rather not."
        if "slow" in text and len(request["messages"]) == 2:
            tries["slow"] += 1
            return "Let me think ..."
        return said.by_words(request)

    server = judge(answer)
    record, traces = analyse(server, make_run("a", [(0, "kuhn", text) for text in ("slow", "hopeless", "quick")]))
    again = [request["messages"] for request in server.requests if len(request["messages"]) == 4]
    assert len(again) == 4
    assert all(messages[2]["role"] == "assistant" for messages in again)
    assert all("there is no JSON object in it" in messages[3]["content"] for messages in again)
    assert (record["traces"], record["judged"], tries["slow"]) == (3, 2, 2)
    assert [reading["without_verdict"] for reading in record["readings"]] == [{"nonsense": 1}] * 2
    assert any("no verdict 2 times (nonsense 2)" in note for note in record["notes"])
    hopeless = next(trace for trace in traces if trace["text"] == "hopeless")
    assert hopeless["verdicts"][0]["problem"].startswith("nonsense: 2 answers were no verdict")
    assert record["cells"][0]["patterns"][0]["judged"] == 2


def test_a_judge_that_answers_nothing_but_nonsense_is_given_up(make_run, judge, analyse):
    """It costs two calls for each of ten traces or so, and not for all of a thousand."""
    server = judge(lambda request: "What a nice text!")
    record, _ = analyse(
        server, make_run("a", [(0, "kuhn", str(n)) for n in range(100)]), num=100, args=",max_concurrent=1"
    )
    assert 2 * FAILURES_IN_A_ROW <= len(server.requests) <= 2 * FAILURES_IN_A_ROW + 4
    assert "gave no verdict on 10 traces in a row, the last time: nonsense" in record["stopped"]
    assert record["judged"] == 0


def test_a_judge_that_is_down_is_given_up_with_its_cause(make_run, judge, analyse):
    server = judge()
    url = server.url
    server.__exit__(None, None, None)
    run = make_run("a", [(0, "kuhn", str(n)) for n in range(40)])
    record, _ = analyse(None, run, num=40, judges=[f"remote:model=any,url={url},retries=1"])
    assert "10 traces in a row, the last time: connection: " in record["stopped"]
    assert any(note.startswith("partial result, 0 of 40 traces: ") for note in record["notes"])
    assert record["readings"][0]["without_verdict"]["not asked"] >= 30 - FAILURES_IN_A_ROW


def test_a_judge_that_limits_rates_is_asked_again_after_the_time_that_it_asks_for(run, judge, analyse, said):
    """Every second request is refused with a Retry-After: no verdict is lost."""
    lock, count = threading.Lock(), [0]

    def answer(request):
        with lock:
            count[0] += 1
            refused = count[0] % 2
        return ChatAnswer(status=429, headers={"Retry-After": "0"}, body=b"") if refused else said.by_words(request)

    server = judge(answer)
    record, _ = analyse(server, run, num=3, judges=[f"remote:model=any,url={server.url},retries=8"])
    assert record["judged"] == record["traces"] == 9
    assert record["spent"][0]["failures"]["http 429"] >= 9


def test_a_refusal_that_will_not_pass_stops_at_once_with_its_remedy(run, judge, analyse):
    server = judge(lambda request: ChatAnswer(status=401, body=b"{}"))
    record, _ = analyse(server, run, args=",max_concurrent=1")
    assert "http 401" in record["stopped"]
    assert "key_env" in record["stopped"]
    assert len(server.requests) == 1


def test_of_a_megabyte_the_judge_sees_both_ends_and_the_record_says_so(make_run, judge, analyse, said):
    long = "begins " + "x" * 1_000_000 + " ends"
    server = judge()
    record, traces = analyse(server, make_run("a", [(0, "kuhn", long), (0, "kuhn", "short")]), max_chars=2000)
    assert max(len(json.dumps(request)) for request in server.requests) < 6000
    seen = next(text for text in map(said.text_of, server.requests) if text != "short")
    assert seen.startswith("begins ")
    assert seen.endswith(" ends")
    assert "998,012 characters are left out here" in seen
    assert record["cut"] == 1
    assert record["notes"][0] == "1 trace has more than 2,000 characters, of which a judge saw both ends"
    assert long in {trace["text"] for trace in traces}


# Money


def test_a_budget_that_runs_out_midway_leaves_a_partial_result_of_whole_traces(run, judge, analyse):
    """Nine calls at one a verdict: the first four traces have both their verdicts, and the record says what stopped it."""
    server = judge()
    record, traces = analyse(server, run, args=",max_calls=9,max_concurrent=1")
    assert len(server.requests) == 9
    assert (record["judged"], record["traces"]) == (4, 20)
    assert "has used its budget of 9 calls; raise max_calls" in record["stopped"]
    assert sum(cell["patterns"][0]["judged"] for cell in record["cells"]) == 4
    assert record["spent"][0]["calls"] == 9
    assert sum(v == {"problem": "not asked"} for trace in traces for v in trace["verdicts"]) == 31


def test_a_verdict_that_was_paid_for_is_never_paid_again(run, judge, analyse, tmp_path):
    """Asked for once more, with a raised budget, in another directory, or with more traces: only what is new is asked."""
    server = judge()
    first, _ = analyse(server, run, args=",max_calls=9,max_concurrent=1")
    assert first["stopped"]
    whole, _ = analyse(server, run, args=",max_calls=100")
    assert (whole["judged"], len(server.requests), whole["spent"][0]["calls"]) == (20, 40, 40)
    again, _ = analyse(server, run, args=",max_calls=100,max_tokens=9,timeout_s=1")
    elsewhere, _ = analyse(server, run, out=tmp_path / "elsewhere")
    assert len(server.requests) == 40
    assert again["cells"] == elsewhere["cells"] == whole["cells"]
    assert elsewhere["spent"][0]["calls"] == 0


@pytest.mark.parametrize("change", ["judge", "rubric", "text"])
def test_a_verdict_is_that_of_one_judge_one_rubric_and_one_text(run, judge, analyse, tmp_path, change, said):
    """Whichever of them changes, it is asked anew."""
    server = judge()
    analyse(server, run, num=1)
    before = len(server.requests)
    (tmp_path / "own.yaml").write_text("patterns: [{name: luck, description: speaks of luck}]")
    asked = {"rubrics": (tmp_path / "own.yaml",)} if change == "rubric" else {}
    if change == "text":
        run = run.rename(run.with_name("other"))
        (run / "episodes.jsonl").write_text(json.dumps(said.episode(0, ["something else"])) + "\n")
    analyse(
        server, run, num=1, out=tmp_path / "other_out", args=",temperature=0.5" if change == "judge" else "", **asked
    )
    assert len(server.requests) == before + (2 if change == "text" else before)


@pytest.mark.usefixtures("foreground_signals")
def test_an_analysis_that_is_interrupted_goes_on_where_it_was(run, judge, analyse, said):
    """Every verdict that had come is kept: both together ask as often as one that is not interrupted, but for calls that
    were in flight."""
    lock, count = threading.Lock(), [0]

    def answer(request):
        with lock:
            count[0] += 1
            if count[0] == 12:
                os.kill(os.getpid(), signal.SIGINT)
        return said.by_words(request)

    server = judge(answer)
    with pytest.raises(KeyboardInterrupt):
        analyse(server, run, args=",max_concurrent=1")
    assert 11 <= len(server.requests) <= 14
    record, _ = analyse(server, run, args=",max_concurrent=1")
    assert record["judged"] == 20
    assert 40 <= len(server.requests) <= 42


def test_a_damaged_verdict_is_asked_for_again(run, judge, analyse, tmp_path):
    server = judge()
    first, _ = analyse(server, run, num=1)
    for number, path in enumerate(sorted((tmp_path / "cache").rglob("*.json"))):
        path.write_text(["", "{}", '{"shown": 1}', "[" * 100_000, '{"shown": {"a": true}, "reasons": {}}'][number % 5])
    before = len(server.requests)
    again, _ = analyse(server, run, num=1)
    assert len(server.requests) == 2 * before
    assert again["cells"] == first["cells"]


# Files


def test_the_record_and_all_traces_are_kept(run, judge, analyse, tmp_path):
    record, traces = analyse(judge(), run)
    assert json.loads((tmp_path / "out" / "patterns.json").read_text()) == record
    lines = (tmp_path / "out" / "traces.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == traces
    assert set(traces[0]) == {"policy", "step", "domain", "name", "text", "where", "right", "stage", "verdicts"}


def test_a_directory_that_holds_something_else_is_left_alone(run, judge, analyse, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    server = judge()
    with pytest.raises(RunError, match="holds something that is no analysis of patterns; give another --out"):
        analyse(server, run)
    assert server.requests == []
