"""The people of a video as its owner knows them: names, and numbers that are one person.

Edits are kept beside the report, and a worker writes them into it a moment later: the video's
`updating` says so. Two people edit at once without losing anything: an edit that came too late is
made anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from flask import Blueprint, Response, jsonify

from shared.errors import Conflict, InvalidRecord, NotFound
from shared.video import MAX_PERSON_NAME_LENGTH, People, report_path
from shared.videos import Videos
from web.problem import BadField
from web.report import no_report_yet
from web.videos import check_id, field_of_body

_TRIES = 5  # of an edit because somebody else's came between
Edit = Callable[[People, Mapping[str, Any]], People]


def blueprint(videos: Videos) -> Blueprint:
    """The routes below ``/api/videos/{id}/people``."""
    bp = Blueprint("people", __name__, url_prefix="/api/videos")
    bp.url_value_preprocessor(check_id)

    def edited(video_id: str, edit: Edit) -> Response:
        video = videos.one(video_id)
        try:
            found = json.loads(videos.media.read(report_path(video_id, "summary.json")))
        except NotFound:
            raise no_report_yet(video) from None
        for attempt in range(1, _TRIES + 1):
            people = videos.people(video_id)
            try:
                kept = videos.put_people(video_id, edit(people, found))
            except Conflict:
                # Somebody else's edit came between, or the report's state says no.
                if attempt == _TRIES or videos.people(video_id).revision == people.revision:
                    raise
            else:
                break
        return jsonify({"revision": kept.revision, "names": kept.names, "merged": kept.merged})

    @bp.patch("/<video_id>/people/<int:person>")
    def name_person(video_id: str, person: int) -> Response:
        name = field_of_body("name")
        if name is not None and not isinstance(name, str):
            raise BadField("name", "'name' must be text, or null for no name.")
        return edited(video_id, lambda people, found: named(people, found, person, name))

    @bp.post("/<video_id>/people/<int:person>/merge")
    def merge(video_id: str, person: int) -> Response:
        into = field_of_body("into")
        if isinstance(into, bool) or not isinstance(into, int):
            raise BadField("into", "'into' must be the number of the person that this one is.")
        return edited(video_id, lambda people, found: merged(people, found, person, into))

    @bp.delete("/<video_id>/people/<int:person>/merge")
    def part(video_id: str, person: int) -> Response:
        return edited(video_id, lambda people, found: parted(people, found, person))

    return bp


def named(people: People, found: Mapping[str, Any], person: int, name: str | None) -> People:
    """The edits with a name for a person, or without one."""
    _require_known(found, [person])
    _require_own(people, person)
    name = " ".join((name or "").split())
    names = {number: given for number, given in people.names.items() if number != person}
    try:
        return replace(people, names={**names, person: name} if name else names)
    except InvalidRecord as error:
        raise BadField(
            "name",
            f"'name' must be at most {MAX_PERSON_NAME_LENGTH} characters that can be shown.",
        ) from error


def merged(people: People, found: Mapping[str, Any], person: int, into: int) -> People:
    """The edits with two numbers made one person: all of `person` belongs to `into`.

    Raises Conflict where both are seen in one frame, for then they are two.
    """
    _require_known(found, [person, into])
    _require_own(people, person)
    into = people.person(into)
    if person == into:
        raise BadField("into", f"Person {person} is that person already: give another number.")
    ones, others = _numbers(people, person), _numbers(people, into)
    for pair in found.get("together", ()):
        a, b = pair
        if (a in ones and b in others) or (b in ones and a in others):
            raise Conflict(
                f"Persons {person} and {into} are seen in the same frame, so they are two: "
                "choose others."
            )
    moved = {number: into if to == person else to for number, to in people.merged.items()}
    names = dict(people.names)
    if person in names:
        names.setdefault(into, names[person])
    return replace(people, names=names, merged={**moved, person: into})


def parted(people: People, found: Mapping[str, Any], person: int) -> People:
    """The edits with a number made a person of its own again."""
    _require_known(found, [person])
    if person not in people.merged:
        raise Conflict(f"Person {person} is merged into nobody: there is nothing to undo.")
    rest = {number: into for number, into in people.merged.items() if number != person}
    return replace(people, merged=rest)


def _require_known(found: Mapping[str, Any], persons: Iterable[int]) -> None:
    rows = found.get("people", ())
    known = {row["id"] for row in rows} | {n for row in rows for n in row.get("merged", ())}
    for person in persons:
        if person not in known:
            raise NotFound(f"The report of this video has no person {person}: see summary.json.")


def _require_own(people: People, person: int) -> None:
    if person in people.merged:
        raise Conflict(
            f"Person {person} is merged into person {people.merged[person]}: edit that one, or "
            "undo the merge first."
        )


def _numbers(people: People, person: int) -> set[int]:
    return {person} | {number for number, into in people.merged.items() if into == person}
