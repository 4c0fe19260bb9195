from __future__ import annotations

import pytest

from shared import fonts


@pytest.mark.parametrize("name", ["Ada", "Zoë", "Łukasz Żółć", "Юлия", "Ωμέγα", "Ngô Bảo Châu"])
def test_names_of_many_languages_are_written_in_full(name: str) -> None:
    written, font = fonts.written_in(name, 20)
    assert written == name
    empty = font.getmask("\uffff").getbbox()
    assert all(font.getmask(letter).getbbox() != empty for letter in name if letter != " ")


def test_what_no_font_has_is_left_out() -> None:
    assert fonts.written_in("A\ue123da \u200d", 20)[0] == "Ada"
    assert fonts.written_in("\ue123", 20)[0] == ""


def test_letters_come_composed() -> None:
    assert fonts.written_in("Zoe\u0308", 20)[0] == "Zoë"


def test_where_nothing_more_is_to_be_found_nothing_is_asked_for() -> None:
    assert fonts.files_for(["Ada", "Юлия"]) == []
    assert fonts.files_for(["\ue123"]) == []
