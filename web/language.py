"""The language of the pages: what was chosen in the masthead, else what the browser asks for.

The choice lies in a cookie, so that server and scripts agree: every page says its language on
``<html lang>``, and static/texts.js follows that. Here are only the texts of pages that work
without scripts (login, a wrong address); all others are in static/texts. The API speaks English.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

from flask import Blueprint, Response, redirect, request
from werkzeug.wrappers import Response as BaseResponse

LANGUAGES = {"en": "English", "de": "Deutsch"}  # as those who read it call it
COOKIE = "moodline_language"
TEXTS = {
    "en": {
        "log_in": "Log in",
        "log_in_title": "Moodline: log in",
        "password": "Password",
        "which_password": "It is the MOODLINE_PASSWORD of the machine that runs Moodline.",
        "wrong_password": "This is not the password.",
        "wait": "Too many wrong passwords. Try again in {} s.",
        "disclaimer": "A baseline emotion indicator, not a definitive diagnosis.",
        "missing_title": "Moodline: no such page",
        "missing": "There is no page at this address. These are there:",
        "live": "Live",
        "videos": "Videos",
        "cameras": "Cameras",
        "events": "Events",
        "needs_scripts": "Moodline's page needs JavaScript.",
    },
    "de": {
        "log_in": "Anmelden",
        "log_in_title": "Moodline: anmelden",
        "password": "Passwort",
        "which_password": "Es ist das MOODLINE_PASSWORD des Rechners, auf dem Moodline läuft.",
        "wrong_password": "Das ist nicht das Passwort.",
        "wait": "Zu viele falsche Passwörter. In {} s noch einmal versuchen.",
        "disclaimer": "Ein Anhaltspunkt für Stimmungen, keine Diagnose.",
        "missing_title": "Moodline: keine solche Seite",
        "missing": "Unter dieser Adresse gibt es keine Seite. Diese gibt es:",
        "live": "Live",
        "videos": "Videos",
        "cameras": "Kameras",
        "events": "Ereignisse",
        "needs_scripts": "Diese Seite braucht JavaScript.",
    },
}
_A_YEAR_S = 365 * 24 * 3600
_OWN_PAGE = re.compile(r"/(?:[\w.%-][\w/.%-]*)?(?:\?[\w/.=&%-]*)?(?:#[\w/.=&%-]*)?", re.ASCII)


def language() -> str:
    """The language of the page that is being made."""
    chosen = request.cookies.get(COOKIE, "")
    if chosen in LANGUAGES:
        return chosen
    return request.accept_languages.best_match(LANGUAGES) or next(iter(LANGUAGES))


def words() -> dict[str, str]:
    """The texts of the page that is being made."""
    return TEXTS[language()]


def blueprint() -> Blueprint:
    """``POST /language`` keeps a choice; templates get `language`, `words`, `other_language`."""
    bp = Blueprint("language", __name__)

    @bp.post("/language")
    def choose() -> BaseResponse:
        wanted = request.form.get("to", "")
        back = wanted if _OWN_PAGE.fullmatch(wanted) else "/"
        chosen = redirect(back, HTTPStatus.SEE_OTHER)
        if (name := request.form.get("language", "")) in LANGUAGES:
            chosen.set_cookie(
                COOKIE,
                name,
                max_age=_A_YEAR_S,
                secure=request.is_secure,
                httponly=True,
                samesite="Lax",
            )
        return chosen

    @bp.app_context_processor
    def context() -> dict[str, Any]:
        now, known = language(), list(LANGUAGES)
        other = known[(known.index(now) + 1) % len(known)]
        return {
            "language": now,
            "words": TEXTS[now],
            "other_language": (other, LANGUAGES[other]),
            "here": request.full_path.removesuffix("?"),
        }

    @bp.after_app_request
    def vary(answer: Response) -> Response:
        if answer.mimetype == "text/html":
            answer.vary.update(("Accept-Language", "Cookie"))
        return answer

    return bp
