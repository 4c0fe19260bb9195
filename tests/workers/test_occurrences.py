"""What each kind of rule means, told frame by frame. Times are seconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

from shared.events import Rule, RuleKind, Webhook
from shared.schema import Face, FrameResult
from tests import builders
from workers.occurrences import Occurrence, Occurrences

START = 1000.0  # when the rules began to watch
STEP_S = 0.1


def rule(kind: RuleKind = RuleKind.EMOTION_OVER, **values: object) -> Rule:
    row: dict[str, object] = {
        "id": "0000000a",
        "name": "R",
        "kind": kind,
        "for_s": 1.0,
        "watches_since": START,
    }
    if kind is RuleKind.EMOTION_OVER:
        row |= {"emotion": "happy", "share": 0.6}
    return Rule(**{**row, **values})  # type: ignore[arg-type]


def unsure(track: int = 1) -> Face:
    face = builders.face(track, happy=0.8)
    return Face(track, face.box_xywh, face.emotion, face.confidence, face.scores, unsure=True)


HAPPY, SAD, UNSURE = [builders.face(happy=0.8)], [builders.face(happy=0.2)], [unsure()]
GONE: list[Face] = []


def story(*parts: tuple[float, Sequence[Face]]) -> list[FrameResult]:
    """Results ten times a second: each part goes on for so many seconds with these faces."""
    results: list[FrameResult] = []
    t = START
    for seconds, faces in parts:
        for _ in range(round(seconds / STEP_S)):
            t = round(t + STEP_S, 3)
            results.append(FrameResult("cam", len(results), t, t, 640, 480, tuple(faces)))
    return results


def happenings(
    results: Iterable[FrameResult], *rules: Rule, seen: Occurrences | None = None
) -> list[Occurrence]:
    seen = seen or Occurrences()
    return [each for result in results for each in seen.observe(result, rules)]


def times(results: Iterable[FrameResult], *rules: Rule) -> list[float]:
    return [round(each.at - START, 2) for each in happenings(results, *rules)]


def test_an_emotion_has_to_hold_for_its_time_and_tells_face_and_score() -> None:
    (one,) = happenings(story((0.5, SAD), (5, HAPPY)), rule(for_s=3))
    assert (round(one.at - START, 2), one.track, one.value) == (3.6, 1, 0.8)
    assert one.box_xywh == HAPPY[0].box_xywh
    assert happenings(story((2.9, HAPPY)), rule(for_s=3)) == []


@pytest.mark.parametrize(
    ("between", "again"),
    [
        ((0.2, SAD), True),  # the face was seen otherwise: the time begins anew
        ((0.2, UNSURE), True),  # unsure is no emotion
        ((0.8, GONE), False),  # missed for a moment: nobody knows otherwise
        ((1.5, GONE), True),
    ],
)
def test_what_breaks_the_time(between: tuple[float, list[Face]], again: bool) -> None:
    results = story((2, HAPPY), between, (2.5, HAPPY))
    assert bool(times(results, rule(for_s=3))) is not again


def test_one_occurrence_is_one_event_until_it_was_over_for_a_second() -> None:
    flicker = [(0.3, SAD), (0.3, HAPPY)] * 10
    assert times(story((2, HAPPY), *flicker, (2, GONE), (0.5, HAPPY)), rule()) == [1.1]
    assert times(story((2, HAPPY), (1.5, SAD), (2, HAPPY)), rule()) == [1.1, 4.6]
    assert times(story((2, HAPPY), (0.8, GONE), (2, HAPPY)), rule()) == [1.1]
    assert times(story((2, HAPPY), (1.5, GONE), (2, HAPPY)), rule()) == [1.1, 4.6]


def test_each_face_is_an_occurrence_of_its_own() -> None:
    two = [builders.face(1, happy=0.8), builders.face(2, happy=0.9)]
    found = happenings(story((1, HAPPY), (2, two)), rule())
    assert [(each.track, each.value) for each in found] == [(1, 0.8), (2, 0.9)]


def test_within_the_pause_further_occurrences_pass_in_silence() -> None:
    results = story((2, HAPPY), (1.5, SAD), (2, HAPPY), (1.5, SAD), (2, HAPPY))
    assert times(results, rule(cooldown_s=5)) == [1.1, 8.1]


def test_a_score_at_the_limit_is_not_over_it() -> None:
    assert times(story((3, [builders.face(happy=0.6)])), rule()) == []


def test_after_a_silence_of_the_feed_the_time_begins_anew_and_no_event_comes_twice() -> None:
    results = story((0.8, HAPPY), (7, GONE), (3, HAPPY))
    heard = [r for r in results if not START + 0.85 < r.captured_at < START + 7.85]
    assert times(heard, rule()) == [8.9]
    results = story((2, HAPPY), (7, GONE), (3, HAPPY))
    heard = [r for r in results if not START + 2.05 < r.captured_at < START + 9.05]
    assert times(heard, rule()) == [1.1]


def test_slow_feeds_can_meet_a_rule_too() -> None:
    slow = story((20, HAPPY))[::20]  # a frame every two seconds
    assert times(slow, rule(for_s=3)) == [4.1]


def test_a_person_is_new_once_and_who_was_there_before_the_rule_is_not() -> None:
    new_person = rule(RuleKind.NEW_PERSON, for_s=0.5, watches_since=START + 2)
    one, two = builders.face(1), builders.face(2)
    results = story((3, [one]), (1, [one, two]), (5, [one]), (2, [one, two]))
    (found,) = happenings(results, new_person)
    assert (found.track, round(found.at - START, 2), found.value) == (2, 3.6, None)


def test_a_glimpse_is_no_new_person() -> None:
    new_person = rule(RuleKind.NEW_PERSON, for_s=1)
    assert times(story((0.6, HAPPY), (2, GONE), (0.6, HAPPY), (2, GONE)), new_person) == []


def test_nobody_needs_somebody_first() -> None:
    nobody = rule(RuleKind.NOBODY_FOR, for_s=2)
    assert times(story((5, GONE)), nobody) == []
    assert times(story((2, HAPPY), (5, GONE), (2, HAPPY), (3, GONE)), nobody) == [4.1, 11.1]
    # Something that looks like a face for a moment is nobody.
    assert times(story((2, HAPPY), (5, GONE), (0.5, HAPPY), (5, GONE)), nobody) == [4.1]


def test_a_rule_that_watches_for_something_else_begins_anew_and_a_new_name_changes_nothing() -> (
    None
):
    before = rule()
    seen = Occurrences()
    assert len(happenings(story((2, HAPPY)), before, seen=seen)) == 1
    later = [r for r in story((4, HAPPY)) if r.captured_at > START + 2]
    renamed = rule(name="Other", webhooks=(Webhook.new("https://x.example"),)).succeed(before)
    assert happenings(later[:10], renamed, seen=seen) == []
    other = rule(share=0.5, watches_since=START + 2.5).succeed(before)
    assert len(happenings(later[10:], other, seen=seen)) == 0
    assert len(happenings(story((6, HAPPY))[40:], other, seen=seen)) == 1


def test_the_state_goes_through_json_at_any_frame_without_changing_what_comes() -> None:
    rules = [
        rule(for_s=2),
        rule(RuleKind.NEW_PERSON, id="0000000b", for_s=0.5),
        rule(RuleKind.NOBODY_FOR, id="0000000c"),
    ]
    flicker = [(0.3, HAPPY), (0.3, UNSURE)] * 3
    results = story((1, GONE), (3, HAPPY), (1.5, SAD), (2.5, HAPPY), *flicker, (3, GONE))
    whole = happenings(results, *rules)
    assert len(whole) == 4
    seen, pieces = Occurrences(), []
    for result in results:
        seen = Occurrences.from_json(seen.to_json())
        pieces += list(seen.observe(result, rules))
    assert pieces == whole
