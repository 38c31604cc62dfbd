"""Several answers to one task: which one counts, and what is reported."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from kshot.labelling import Answer, Verdict
from kshot.labelling.answers import settle
from kshot.records import canonical_json

START = datetime(2026, 3, 1, tzinfo=UTC)


def vote(outputs, annotator="anna", minute: int | None = 0, *, id="t", line=1, verdict=Verdict.GIVEN):  # noqa: A002
    at = None if minute is None else START + timedelta(minutes=minute)
    return Answer(id=id, outputs=outputs, annotator=annotator, annotated_at=at, line=line, verdict=verdict)


def skip(annotator="anna", minute=0):
    return vote(None, annotator, minute, verdict=Verdict.SKIPPED)


def test_the_latest_answer_counts_wherever_it_stands_in_the_file():
    (answer,), problems = settle([vote("new", minute=5), vote("old", minute=1)])
    assert answer.outputs == "new"
    assert problems == []


def test_of_equal_times_the_later_in_the_file_counts():
    (answer,), _ = settle([vote("first", minute=None), vote("second", minute=None)])
    assert answer.outputs == "second"


def test_an_answer_with_a_time_is_later_than_one_without():
    (answer,), _ = settle([vote("timed", "anna", 0), vote("untimed", "anna", None)])
    assert answer.outputs == "timed"


def test_an_annotator_who_answers_again_disagrees_with_nobody():
    _, problems = settle([vote("a", "anna", 0), vote("b", "ben", 1), vote("b", "anna", 2)])
    assert problems == []


def test_annotators_whose_last_words_differ_are_reported():
    (answer,), (problem,) = settle([vote("a", "anna", 2, line=7), vote("b", "ben", 1, line=8)])
    assert answer.outputs == "a"
    assert (problem.code, problem.id, problem.line, problem.is_answered) == ("disagreement", "t", 7, True)
    assert problem.message == "annotators differ (anna, ben); the latest answer, by anna, is taken"


def test_answers_without_a_name_count_as_different_annotators():
    _, (problem,) = settle([vote("a", None, 0), vote("b", None, 1)])
    assert problem.message == "annotators differ (unnamed); the latest answer, by unnamed, is taken"


def test_equal_answers_are_compared_as_json():
    _, problems = settle([vote({"x": 1, "y": 2}, "anna"), vote({"y": 2, "x": 1}, "ben")])
    assert problems == []
    _, (problem,) = settle([vote({"x": 1}, "anna"), vote({"x": True}, "ben")])
    assert problem.code == "disagreement"


def test_an_answer_counts_more_than_a_later_skip_and_does_not_disagree_with_it():
    (answer,), problems = settle([vote("a", "anna", 0), skip("ben", 9)])
    assert (answer.outputs, answer.verdict, problems) == ("a", Verdict.GIVEN, [])


def test_without_an_answer_the_latest_verdict_is_kept():
    rejected = vote(None, "ben", 3, verdict=Verdict.REJECTED)
    (answer,), _ = settle([rejected, skip("anna", 1)])
    assert answer.verdict is Verdict.REJECTED


def test_ids_keep_the_order_of_the_file():
    answers, _ = settle([vote("1", id="b"), vote("2", id="a"), vote("3", id="b", minute=4)])
    assert [(one.id, one.outputs) for one in answers] == [("b", "3"), ("a", "2")]


VOTES = st.lists(
    st.builds(
        vote,
        st.sampled_from(["x", "y"]),
        st.sampled_from(["anna", "ben", None]),
        st.none() | st.integers(0, 3),
        id=st.sampled_from(["s", "t"]),
    )
)


@given(VOTES)
def test_settling_agrees_with_its_words(votes):
    """The slow way: scan for the latest, keep each named annotator's latest, compare all."""
    answers, problems = settle(votes)
    assert [one.id for one in answers] == list(dict.fromkeys(one.id for one in votes))
    reported = {problem.id for problem in problems}
    for answer in answers:
        latest = None
        last_words: dict[object, Answer] = {}
        for position, one in enumerate(votes):
            if one.id != answer.id:
                continue
            if latest is None or _time(one) >= _time(latest):
                latest = one
            key = one.annotator or position
            if key not in last_words or _time(one) >= _time(last_words[key]):
                last_words[key] = one
        assert answer == latest
        differ = len({canonical_json(one.outputs) for one in last_words.values()}) > 1
        assert (answer.id in reported) == differ


def _time(one: Answer) -> float:
    return -1.0 if one.annotated_at is None else (one.annotated_at - START).total_seconds()
