"""The report page in a real Chromium: what a researcher sees and does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, expect

from shared.bus import Bus
from shared.video import ExportKind, Video, VideoOptions, VideoStatus
from tests.web.archive import FPS, HEIGHT, WIDTH, Archive, clip, nobody, square_at, three_people
from tests.web.conftest import Server, start, stop, wait_until

FRAMES = 120
# Where the light square of the shown picture is, and where the box is that was drawn over it: left,
# top, right and bottom in pixels of the video.
_PICTURE_AND_BOX = """
([width, height]) => {
  const around = (source, wanted) => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height];
    const context = canvas.getContext("2d");
    context.drawImage(source, 0, 0, width, height);
    const { data } = context.getImageData(0, 0, width, height);
    let [left, top, right, bottom] = [width, height, -1, -1];
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
      if (!wanted(data.subarray(4 * (y * width + x), 4 * (y * width + x) + 4))) continue;
      [left, right] = [Math.min(left, x), Math.max(right, x)];
      [top, bottom] = [Math.min(top, y), Math.max(bottom, y)];
    }
    return [left, top, right + 1, bottom + 1];
  };
  return {
    picture: around(document.querySelector(".stage video"), ([r, g, b]) => Math.min(r, g, b) > 180),
    box: around(document.querySelector(".stage canvas"), ([, , , alpha]) => alpha > 120),
  };
}
"""

_COLOURS = """
canvas => new Set(
  canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data).size
"""


@pytest.fixture(scope="module")
def three() -> bytes:
    return clip(FRAMES, (1, 2, 3))


@pytest.fixture(scope="module")
def one() -> bytes:
    return clip(FRAMES)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def server(redis_url: str, data_dir: Path) -> Iterator[Server]:
    """A web server for all tests here, which share a folder with it."""
    server = start(redis_url, data_dir)
    yield server
    stop(server.process)


@pytest.fixture
def archive(bus: Bus, redis_url: str, data_dir: Path) -> Iterator[Archive]:
    archive = Archive(redis_url, data_dir)
    yield archive
    archive.videos.close()


class Reader:
    """Opens report pages of one server."""

    def __init__(self, browser: Browser, server: Server, complaints: list[str]) -> None:
        self._context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
        self._server = server
        self._complaints = complaints

    def answer(self, pattern: str, handler: Callable[[Route], None]) -> None:
        """Have requests of the pages for such addresses answered by `handler`."""
        self._context.route(pattern, handler)

    def open(self, video: Video, query: str = "", *, width: int = 1440, height: int = 900) -> Page:
        page = self._context.new_page()
        page.set_viewport_size({"width": width, "height": height})
        page.on("console", self._note)
        page.on("pageerror", lambda error: self._complaints.append(str(error)))
        page.goto(f"{self._server.url}/videos/{video.id}{query}")
        return page

    def close(self) -> None:
        self._context.close()

    def _note(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._complaints.append(f"{message.text} {message.location['url']}")


@pytest.fixture
def reader(browser: Browser, server: Server, complaints: list[str]) -> Iterator[Reader]:
    reader = Reader(browser, server, complaints)
    yield reader
    reader.close()


def shown_frame(page: Page) -> int:
    """The number of the frame on the screen, by the clock beside it."""
    minutes, seconds = page.locator(".clock").inner_text().split(" / ")[0].split(":")
    return round((60 * int(minutes) + float(seconds)) * FPS)


def wait_for_frame(page: Page, number: int) -> None:
    expect(page.locator(".clock")).to_have_text(re.compile(f"^0:{number / FPS:05.2f} /"))


def plot_x(page: Page, share: float) -> tuple[float, float]:
    """A place on the first lane: so far along the time axis, in its middle."""
    plot = page.locator(".lanes .lane .plot").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box
    return box["x"] + share * box["width"], box["y"] + box["height"] / 2


def update_report(page: Page, archive: Archive, video: Video) -> None:
    """Do what a worker does after an edit, and wait until the page shows it."""
    archive.derive(video)
    expect(page.locator(".updating")).to_be_hidden()


def test_the_overlay_is_of_the_very_frame_that_is_shown(
    archive: Archive, reader: Reader, one: bytes, complaints: list[str]
) -> None:
    video = archive.analysed(one, lambda index: {1: three_people(index)[1]})
    page = reader.open(video)
    wait_for_frame(page, 0)
    for layer in ("Names", "Emotions"):  # a label would blur where the box ends
        page.get_by_label(layer, exact=True).uncheck()

    def matches() -> None:
        page.wait_for_timeout(100)  # what is painted is one turn of the screen behind the clock
        found: dict[str, Any] = page.evaluate(_PICTURE_AND_BOX, [WIDTH, HEIGHT])
        x, y, width, height = square_at(shown_frame(page))
        assert found["picture"] == pytest.approx([x, y, x + width, y + height], abs=2)
        assert found["box"] == pytest.approx(found["picture"], abs=5)

    matches()
    for number in (1, 2, 3):  # frame by frame
        page.keyboard.press("ArrowRight")
        wait_for_frame(page, number)
        matches()
    page.keyboard.press("ArrowLeft")
    wait_for_frame(page, 2)
    matches()
    for share in (0.9, 0.31, 0.62, 0.05):  # and wherever a click leads
        page.mouse.click(*plot_x(page, share))
        expect(page.locator(".clock")).to_have_text(
            re.compile(rf"^0:0{share * FRAMES / FPS:.4f}"[:6])
        )
        matches()
    page.keyboard.press("End")
    wait_for_frame(page, FRAMES - 1)
    matches()
    page.get_by_label("Boxes", exact=True).uncheck()
    assert page.evaluate(_PICTURE_AND_BOX, [WIDTH, HEIGHT])["box"][2] == 0
    assert complaints == []


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (820, 1180)])
def test_the_controls_stand_in_one_row(
    archive: Archive, three: bytes, reader: Reader, width: int, height: int
) -> None:
    page = reader.open(archive.analysed(three, three_people), width=width, height=height)
    expect(page.locator("#report")).to_be_visible()
    boxes = [
        page.locator(f".controls .{name}").bounding_box() for name in ("play", "speed", "full")
    ]
    assert max(box["y"] for box in boxes if box) < min(
        box["y"] + box["height"] for box in boxes if box
    )


def test_playing_moves_the_playhead_and_the_overlay_with_it(
    archive: Archive, reader: Reader, one: bytes, complaints: list[str]
) -> None:
    video = archive.analysed(one, lambda index: {1: three_people(index)[1]})
    page = reader.open(video)
    wait_for_frame(page, 0)
    for layer in ("Names", "Emotions"):
        page.get_by_label(layer, exact=True).uncheck()
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    expect(page.locator(".clock")).to_have_text(re.compile(r"^0:0[1-4]\."))
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    page.wait_for_timeout(100)
    number = shown_frame(page)
    assert number > 20
    found = page.evaluate(_PICTURE_AND_BOX, [WIDTH, HEIGHT])
    assert found["box"] == pytest.approx(found["picture"], abs=5)
    head, lane = page.locator(".cursors .playhead").bounding_box(), page.locator(".cursors")
    across = lane.bounding_box()
    assert head
    assert across
    share = (head["x"] + 1 - across["x"]) / across["width"]
    assert share == pytest.approx(number / FRAMES, abs=0.02)
    assert complaints == []


def test_a_link_leads_to_its_moment(
    archive: Archive, reader: Reader, one: bytes, complaints: list[str]
) -> None:
    video = archive.analysed(one, lambda index: {1: three_people(index)[1]})
    page = reader.open(video, "?t=2.44")
    wait_for_frame(page, 61)
    page.get_by_role("button", name="Copy link to this moment").click()
    expect(page.locator(".toast")).to_contain_text("Link to 0:02.44 copied")
    link = page.evaluate("navigator.clipboard.readText()")
    assert link.endswith(f"/videos/{video.id}?t=2.44")
    page.goto(link)
    wait_for_frame(page, 61)
    assert complaints == []


def test_a_person_is_named_in_place(
    archive: Archive, reader: Reader, three: bytes, complaints: list[str]
) -> None:
    video = archive.analysed(three, three_people)
    page = reader.open(video)
    expect(page.locator(".person")).to_have_count(3)
    page.get_by_role("button", name="Rename Person 1").click()
    field = page.get_by_label("Name of Person 1")
    expect(field).to_be_focused()
    field.fill("Ada <b>Lovelace</b>")
    field.press("Enter")
    expect(page.get_by_role("button", name="Rename Ada")).to_be_focused()
    expect(page.locator(".lane-name").first).to_have_text("Ada <b>Lovelace</b>")
    expect(page.locator(".updating")).to_be_visible()
    wait_until(lambda: archive.videos.people(video.id).names == {1: "Ada <b>Lovelace</b>"})
    update_report(page, archive, video)
    page.reload()
    expect(page.locator(".person-name").first).to_have_text("Ada <b>Lovelace</b>")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("n")
    page.get_by_label("Name of Ada").press("Escape")
    expect(page.locator(".person-name").first).to_have_text("Ada <b>Lovelace</b>")
    assert complaints == []


def test_two_numbers_become_one_person_and_two_again(
    archive: Archive, reader: Reader, three: bytes, complaints: list[str]
) -> None:
    video = archive.analysed(three, three_people)
    page = reader.open(video)
    page.locator(".lane-head", has_text="Person 3").click()
    page.keyboard.press("m")
    dialog = page.get_by_role("dialog", name="Who is the same person as Person 3?")
    refused = dialog.get_by_role("button", name="Person 1")
    expect(refused).to_be_disabled()
    expect(refused).to_contain_text("in one picture with them")
    dialog.get_by_role("button", name="Person 2").click()
    expect(page.locator(".toast")).to_contain_text("Person 3 is now part of Person 2.")
    update_report(page, archive, video)
    expect(page.locator(".person")).to_have_count(2)
    expect(page.locator(".lanes .lane")).to_have_count(2)
    page.locator(".toast").get_by_role("button", name="Undo").click()
    expect(page.locator(".toast")).to_contain_text("of their own again")
    update_report(page, archive, video)
    expect(page.locator(".person")).to_have_count(3)
    assert archive.videos.people(video.id).merged == {}
    assert complaints == []


def test_a_card_is_dragged_onto_the_same_person(
    archive: Archive, reader: Reader, three: bytes, complaints: list[str]
) -> None:
    video = archive.analysed(three, three_people)
    page = reader.open(video)
    heads = page.locator(".person-head")
    expect(heads).to_have_count(3)
    numbers = [card.get_attribute("data-person") for card in page.locator(".person").all()]
    first, second, third = (heads.nth(numbers.index(number)) for number in ("1", "2", "3"))
    third.locator(".person-seen").drag_to(first.locator(".person-seen"))
    expect(page.locator(".toast")).to_contain_text("seen in one picture, so they are not one")
    assert archive.videos.people(video.id).revision == 0
    third.locator(".person-seen").drag_to(second.locator(".person-seen"))
    expect(page.locator(".toast")).to_contain_text("Person 3 is now part of Person 2.")
    assert archive.videos.people(video.id).merged == {3: 2}
    assert complaints == []


def test_the_keyboard_does_it_all(
    archive: Archive, reader: Reader, three: bytes, complaints: list[str]
) -> None:
    video = archive.analysed(three, three_people)
    page = reader.open(video, "?t=1")
    wait_for_frame(page, 25)
    page.keyboard.press("Shift+ArrowRight")
    wait_for_frame(page, FRAMES - 1)
    page.keyboard.press("Home")
    wait_for_frame(page, 0)
    selected = page.locator(".person.selected .person-name")
    page.keyboard.press("ArrowDown")
    expect(selected).to_have_text("Person 1")
    page.keyboard.press("ArrowDown")
    expect(selected).not_to_have_text("Person 1")
    page.keyboard.press("ArrowUp")
    expect(selected).to_have_text("Person 1")
    page.keyboard.press("+")
    expect(page.locator(".timeline")).to_have_class(re.compile("zoomed"))
    page.keyboard.press("0")
    expect(page.locator(".timeline")).not_to_have_class(re.compile("zoomed"))
    page.keyboard.press("s")
    expect(page.get_by_role("radio", name="Lines")).to_be_checked()
    page.keyboard.press("t")
    table = page.get_by_role("table", name=re.compile("^Person 1: mean of each emotion"))
    expect(table.get_by_role("row")).not_to_have_count(0)
    assert len(table.get_by_role("columnheader").all()) == 10
    page.keyboard.press("?")
    help_dialog = page.get_by_role("dialog", name="Keyboard")
    expect(help_dialog).to_contain_text("One frame back or on")
    page.keyboard.press("t")  # a dialog has the keyboard for itself
    page.keyboard.press("Escape")
    expect(help_dialog).to_be_hidden()
    expect(table).to_be_visible()
    assert complaints == []


def test_the_timeline_is_zoomed_and_moved(
    archive: Archive, reader: Reader, three: bytes, complaints: list[str]
) -> None:
    video = archive.analysed(three, three_people)
    page = reader.open(video)
    wait_for_frame(page, 0)
    window = page.locator(".overview .window")
    at = "element => [element.style.left, element.style.width].map(parseFloat)"
    page.mouse.move(*plot_x(page, 0.25))
    page.mouse.down()
    page.mouse.move(*plot_x(page, 0.75), steps=4)
    page.mouse.up()
    expect(window).to_be_visible()
    assert window.evaluate(at) == pytest.approx([25, 50], abs=1)
    page.mouse.click(*plot_x(page, 0.5))
    wait_for_frame(page, FRAMES // 2)
    page.keyboard.down("Shift")
    page.mouse.wheel(0, 100)
    page.keyboard.up("Shift")
    wait_until(lambda: window.evaluate(at)[0] > 26)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    wait_until(lambda: window.evaluate(at)[1] < 49)
    page.mouse.dblclick(*plot_x(page, 0.5))
    expect(window).to_be_hidden()
    page.mouse.move(*plot_x(page, 0.2))
    expect(page.locator(".hover")).to_contain_text("%")
    page.get_by_role("radio", name="Compare people").check()
    expect(page.locator(".lanes .lane")).to_have_count(1)
    expect(page.locator(".line-key")).to_have_count(3)
    chart = page.get_by_role("img", name=re.compile(" of all people over time$"))
    wait_until(lambda: chart.evaluate(_COLOURS) > 20)
    page.mouse.move(*plot_x(page, 0.2))
    expect(page.locator(".hover")).to_contain_text("Person 3not in view")
    assert complaints == []


def test_a_strongest_moment_is_a_click_away(
    archive: Archive, reader: Reader, one: bytes, complaints: list[str]
) -> None:
    video = archive.analysed(one, lambda index: {1: three_people(index)[1]})
    page = reader.open(video, "?t=4.6")
    moment = page.locator(".moment").first
    when = float(moment.inner_text().split(":")[-1])
    moment.click()
    expect(page.locator(".clock")).to_have_text(re.compile(rf"^0:0{when:.1f}"[:6]))
    assert complaints == []


def test_an_analysis_is_followed_cancelled_and_begun_again(
    archive: Archive, reader: Reader, one: bytes, complaints: list[str]
) -> None:
    video = archive.uploaded(one)
    page = reader.open(video)
    expect(page.get_by_role("heading", name="Waiting its turn")).to_be_visible()
    archive.work_on(video, 48)
    expect(page.get_by_role("heading", name="Being analysed")).to_be_visible()
    expect(page.locator(".state-figures")).to_contain_text(f"40% · 48 of {FRAMES} frames")
    page.get_by_role("button", name="Cancel the analysis").click()
    expect(page.get_by_role("heading", name="Analysis cancelled")).to_be_visible()
    assert archive.videos.one(video.id).status is VideoStatus.CANCELLED
    page.get_by_role("button", name="Start again").click()
    expect(page.get_by_role("heading", name="Being analysed")).to_be_visible()
    complaints.clear()  # Chromium logs the 409 of a report that is not there yet
    assert page.locator("#report").is_hidden()


def test_what_went_wrong_is_said(
    archive: Archive, reader: Reader, one: bytes, complaints: list[str]
) -> None:
    failed = archive.analysed(
        one,
        three_people,
        status=VideoStatus.FAILED,
        error="The worker that did it died 3 times (segment-4): see the log.",
    )
    page = reader.open(failed)
    expect(page.locator(".notes")).to_contain_text("died 3 times")
    expect(page.locator(".notes").get_by_role("button", name="Try again")).to_be_visible()
    expect(page.locator(".person")).to_have_count(3)
    empty = archive.analysed(one, nobody, "nobody.mp4")
    page = reader.open(empty)
    expect(page.locator(".notes")).to_contain_text(f"{FRAMES} frames were looked at")
    expect(page.locator(".timeline")).to_be_hidden()
    cut = archive.analysed(one[: len(one) * 2 // 3], three_people, "cut.mp4")
    page = reader.open(cut)
    expect(page.locator(".notes")).to_contain_text("The file ends early")
    assert complaints == []
    archive.videos.delete(empty.id)
    page = reader.open(empty)
    expect(page.get_by_text("This video is not here (any more).")).to_be_visible()


def test_files_are_taken_away_and_made_when_asked_for(
    archive: Archive, reader: Reader, one: bytes, complaints: list[str]
) -> None:
    video = archive.analysed(one, three_people, "Interview 3.mp4")
    page = reader.open(video)
    page.get_by_role("button", name="Download").click()
    with page.expect_download() as csv:
        page.get_by_role("link", name="Table").click()
    assert csv.value.suggested_filename == "Interview 3-results.csv"
    assert Path(csv.value.path()).read_text().startswith("frame,t,track,x,y,width,height,")
    row = page.get_by_role("button", name="Annotated video, faces blurred")
    with page.expect_download() as film:
        row.click()
        expect(row).to_contain_text("being made: 0%")
        archive.export(video, ExportKind.ANNOTATED_BLURRED, b"a film")
    assert film.value.suggested_filename == "Interview 3-annotated-blurred.mp4"
    assert Path(film.value.path()).read_bytes() == b"a film"
    expect(row).to_contain_text("downloaded")
    assert complaints == []


def test_a_file_that_no_browser_plays_is_shown_as_a_copy(
    archive: Archive, reader: Reader, one: bytes, complaints: list[str]
) -> None:
    video = archive.analysed(clip(FRAMES, container="mov"), three_people, "old.mov")
    page = reader.open(video)
    expect(page.locator(".veil")).to_contain_text("Moodline makes a copy that it can play. 0%")
    archive.export(video, ExportKind.PREVIEW, one)
    wait_for_frame(page, 0)
    expect(page.locator(".veil")).to_be_hidden()
    assert complaints == []


def test_sampled_frames_keep_their_faces_until_the_next(
    archive: Archive, reader: Reader, one: bytes, complaints: list[str]
) -> None:
    video = archive.analysed(
        one, lambda index: {1: three_people(0)[1]}, options=VideoOptions(fps=5, start_s=1.0)
    )
    page = reader.open(video)
    expect(page.locator(".facts-line")).to_contain_text("5 frames/s analysed")
    expect(page.locator(".facts-line")).to_contain_text("only 0:01 to 0:05 analysed")
    box = [WIDTH, HEIGHT]
    wait_for_frame(page, 0)
    assert page.evaluate(_PICTURE_AND_BOX, box)["box"][2] == 0  # that part was not looked at
    page.goto(f"{page.url}?t=1.12")
    wait_for_frame(page, 28)
    wait_until(lambda: page.evaluate(_PICTURE_AND_BOX, box)["box"][2] > 0)
    assert complaints == []


def test_faces_that_did_not_come_are_asked_for_again_while_the_video_rests(
    archive: Archive, reader: Reader, one: bytes
) -> None:
    failed: list[str] = []

    def fail_once(route: Route) -> None:
        if failed:
            route.fallback()
        else:
            failed.append(route.request.url)
            route.abort()

    reader.answer("**/boxes/*.json*", fail_once)
    page = reader.open(archive.analysed(one, three_people))
    wait_for_frame(page, 0)
    wait_until(lambda: page.evaluate(_PICTURE_AND_BOX, [WIDTH, HEIGHT])["box"][2] > 0)
    assert len(failed) == 1


@pytest.mark.parametrize("width", [1440, 900, 390, 320])
def test_the_page_fits_the_screen(
    archive: Archive, reader: Reader, three: bytes, width: int, complaints: list[str]
) -> None:
    name = "An interview with a name that goes on and on_without_any_place_to_break_it.mp4"
    video = archive.analysed(three, three_people, name)
    page = reader.open(video, width=width, height=844)
    expect(page.locator(".lanes .lane")).to_have_count(3)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    expect(page.locator("footer", has_text="not a definitive diagnosis")).to_be_attached()
    expect(page.locator(".honest")).to_contain_text("An expression is not an emotion")
    chart = page.get_by_role("img", name="Emotions of Person 1 over time")
    chart.scroll_into_view_if_needed()
    wait_until(lambda: chart.evaluate(_COLOURS) > 20)
    assert complaints == []
