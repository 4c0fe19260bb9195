"""When a rule's condition comes true, once an occurrence: from results to what has happened.

An `Occurrences` follows one feed. It promises: the same results give the same occurrences, however
they are cut into turns, and its whole state is small and goes through JSON (`to_json`,
`from_json`), so that another process can go on where one was killed. It uses no clock: the times
are those of capture. What each kind of rule means is said in `shared.events`.

Not here: reading results and writing events (`workers.events`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, field
from typing import Self

from shared.events import Rule, RuleKind
from shared.schema import Face, FrameResult

GAP_S = 1.0
"""What is missed for less breaks nothing, and what is over for less is not over."""
SILENCE_S = 5.0
"""After no result for so long nobody knows what was in between: what had begun begins anew."""

# Longer than the tracker remembers a face out of view (2.5 s): such a number never comes back.
_TRACK_KEPT_S = 30.0
_ROUNDING_S = 1e-3  # of times that went through text
_ROOM = 0  # the subject of what concerns no single face; tracks count from 1


@dataclass(frozen=True, slots=True)
class Occurrence:
    """`rule` came true at `at`; `track`, `value` and `box_xywh` where it is about one face."""

    rule: Rule
    at: float
    track: int | None = None
    value: float | None = None
    box_xywh: tuple[int, int, int, int] | None = None


@dataclass(slots=True)
class _Spell:
    """A condition of one subject, from when it came true."""

    since: float
    held: float  # when it was last seen to be true
    fired: bool = False


@dataclass(slots=True)
class _Watch:
    """What is known of one rule on this feed."""

    since: float  # the rule's `watches_since`: what it watched before does not count
    fired_at: float = float("-inf")
    spells: dict[int, _Spell] = field(default_factory=dict)


class Occurrences:
    """What is going on on one feed, as far as rules ask."""

    def __init__(self) -> None:
        self._tracks: dict[int, tuple[float, float]] = {}  # first and last seen
        self._watches: dict[str, _Watch] = {}

    def observe(self, result: FrameResult, rules: Iterable[Rule]) -> Iterator[Occurrence]:
        """Take one more result of the feed; results come in the order of capture."""
        t = result.captured_at
        for face in result.faces:
            first, _ = self._tracks.get(face.track, (t, t))
            self._tracks[face.track] = (first, t)
        for track, (_, last) in list(self._tracks.items()):
            if t - last > _TRACK_KEPT_S:
                del self._tracks[track]
        known, self._watches = self._watches, {}
        for rule in rules:
            watch = known.get(rule.id)
            if watch is None or watch.since != rule.watches_since:
                watch = _Watch(rule.watches_since)
                if rule.kind is RuleKind.NOBODY_FOR:  # somebody has to be there first
                    watch.spells[_ROOM] = _Spell(t, t, fired=True)
            self._watches[rule.id] = watch
            if t >= rule.watches_since:
                yield from self._look(rule, watch, result)

    def _look(self, rule: Rule, watch: _Watch, result: FrameResult) -> Iterator[Occurrence]:
        t = result.captured_at
        faces = {face.track: face for face in result.faces}
        holding = {
            subject
            for subject in (faces if rule.kind is not RuleKind.NOBODY_FOR else (_ROOM,))
            if self._holds(rule, watch, faces, subject)
        }
        for subject in set(watch.spells) - holding:
            if self._is_over(rule, watch.spells[subject], subject in faces, subject, t):
                del watch.spells[subject]
        for subject in sorted(holding):
            spell = watch.spells.get(subject)
            if spell is None or not (spell.fired or 0 <= t - spell.held <= SILENCE_S):
                spell = watch.spells[subject] = _Spell(t, t)
            spell.held = t
            if spell.fired or t - spell.since < rule.for_s - _ROUNDING_S:
                continue
            spell.fired = True
            if t - watch.fired_at < rule.cooldown_s:
                continue
            watch.fired_at = t
            if face := faces.get(subject):
                value = face.scores.get(rule.emotion)
                yield Occurrence(rule, t, subject, value, face.box_xywh)
            else:
                yield Occurrence(rule, t)

    def _holds(self, rule: Rule, watch: _Watch, faces: dict[int, Face], subject: int) -> bool:
        match rule.kind:
            case RuleKind.EMOTION_OVER:
                face = faces[subject]
                return not face.unsure and face.scores.get(rule.emotion, 0.0) > rule.share
            case RuleKind.NEW_PERSON:
                return self._tracks[subject][0] >= watch.since
            case RuleKind.NOBODY_FOR:
                return not faces

    def _is_over(self, rule: Rule, spell: _Spell, in_view: bool, subject: int, t: float) -> bool:
        """Whether a spell that does not hold now has ended."""
        if rule.kind is RuleKind.NEW_PERSON and spell.fired:
            return subject not in self._tracks  # a number is new once
        if not spell.fired and (in_view or subject == _ROOM):
            return True
        return t - spell.held > GAP_S

    def to_json(self) -> str:
        return json.dumps(
            {
                "tracks": self._tracks,
                "watches": {
                    rule_id: [
                        watch.since,
                        watch.fired_at if watch.fired_at > float("-inf") else None,
                        {subject: astuple(spell) for subject, spell in watch.spells.items()},
                    ]
                    for rule_id, watch in self._watches.items()
                },
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        row = json.loads(text)
        made = cls()
        made._tracks = {int(track): (first, last) for track, (first, last) in row["tracks"].items()}
        for rule_id, (since, fired_at, spells) in row["watches"].items():
            made._watches[rule_id] = _Watch(
                since,
                float("-inf") if fired_at is None else fired_at,
                {int(subject): _Spell(*spell) for subject, spell in spells.items()},
            )
        return made
