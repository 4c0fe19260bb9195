"""The page of events in a real browser: rules are written, and what happens is seen."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from shared.bus import Bus
from shared.config import PROJECT_DIR
from shared.event_bus import EventBus
from shared.events import Delivery, DeliveryState, Event, Rule, RuleKind, Webhook
from tests import builders
from tests.web.conftest import Server, wait_until
from tests.web.studio import Studio, square_scene
from tests.web.test_events import happen

AXE = PROJECT_DIR / "web" / "node_modules" / "axe-core" / "axe.min.js"
HOOK = Webhook("0000000f", "https://hooks.example.org/hush", "s3cret")
SMILES = Rule(
    id="0000000a",
    name="Smiles",
    kind=RuleKind.EMOTION_OVER,
    for_s=3,
    emotion="happiness",
    share=0.6,
    webhooks=(HOOK,),
)


@pytest.fixture
def events(bus: Bus) -> Iterator[EventBus]:
    """The words of the process that looks for events; while a test runs, one does."""
    kept = EventBus(bus.url)
    studio = Studio(bus, [builders.feed("hall"), builders.feed("door")])
    studio.turn()
    ended = threading.Event()

    def lead() -> None:
        while not ended.wait(0.5):
            kept.lead("test")
            studio.report()

    kept.lead("test")
    leading = threading.Thread(target=lead)
    leading.start()
    yield kept
    ended.set()
    leading.join()
    kept.close()


@pytest.fixture
def page(
    server: Server, events: EventBus, open_page: Callable[..., Page], complaints: list[str]
) -> Iterator[Page]:
    page = open_page(f"{server.url}/events")
    yield page
    assert [each for each in complaints if "400" not in each] == []


def violations(page: Page) -> list[Any]:
    """What axe calls serious or worse in this page's own part; nothing without its library."""
    if not AXE.exists():
        return []
    page.evaluate(AXE.read_text() + "; undefined")
    found = page.evaluate(
        "axe.run({ include: [['main'], ['dialog']] }).then((results) => results.violations)"
    )
    return [
        (each["id"], [node["target"] for node in each["nodes"]])
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


def test_a_rule_is_written_as_a_sentence_with_the_keyboard_alone(
    page: Page, events: EventBus
) -> None:
    expect(page.locator("#no-rules")).to_be_visible()
    assert violations(page) == []
    page.locator(".masthead .add-rule").focus()
    page.keyboard.press("Enter")
    dialog = page.locator("#rule-dialog")
    expect(dialog.locator("[value=emotion_over]")).to_be_focused()
    assert violations(page) == []
    page.keyboard.press("Tab")
    page.keyboard.type("Surp")
    page.keyboard.press("Tab")
    page.keyboard.type("75")
    page.keyboard.press("Tab")
    page.keyboard.type("5")
    dialog.locator("[name=name]").press("Enter")
    expect(dialog).to_be_hidden()
    expect(page.locator(".rule-what")).to_have_text(
        "When Surprised is over 75% for 5 s on all feeds"
    )
    (rule,) = events.rules()
    assert (rule.emotion, rule.share, rule.for_s, rule.feeds) == ("surprise", 0.75, 5, ())
    assert not rule.picture


def test_what_a_rule_does_is_chosen_seen_and_changed(page: Page, events: EventBus) -> None:
    events.put_rule(SMILES)
    page.get_by_role("button", name="Edit Smiles").click()
    dialog = page.locator("#rule-dialog")
    expect(dialog).to_contain_text("signed to https://hooks.example.org/***")
    dialog.get_by_label("Somebody new").check()
    dialog.get_by_label("Feeds", exact=True).select_option("some")
    dialog.get_by_label("door").check()
    dialog.get_by_label("Keep the picture").check()
    dialog.get_by_label("Then say nothing for").fill("30")
    dialog.get_by_role("button", name="Add web address").click()
    dialog.get_by_label("Web address", exact=True).fill("http://10.0.0.1/hook")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_role("alert")).to_contain_text("MOODLINE_WEBHOOK_ALLOW")
    expect(dialog.get_by_label("Web address", exact=True)).to_be_focused()
    dialog.get_by_label("Web address", exact=True).fill("https://192.0.43.10/hook")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_be_hidden()
    (rule,) = events.rules()
    assert (rule.kind, rule.feeds, rule.cooldown_s) == (RuleKind.NEW_PERSON, ("door",), 30)
    assert rule.webhooks[0] == HOOK
    assert rule.webhooks[1].url == "https://192.0.43.10/hook"
    card = page.locator(".rule")
    expect(card).to_contain_text("on door")
    expect(card.locator(".keeps")).to_have_text("Keeps the picture")
    assert "hush" not in page.content()
    page.get_by_label("On: Smiles").uncheck()
    wait_until(lambda: not events.rule(SMILES.id).enabled)
    assert events.rule(SMILES.id).webhooks[0] == HOOK


def test_events_come_with_picture_and_deliveries_and_can_be_deleted(
    page: Page, events: EventBus
) -> None:
    events.put_rule(SMILES)
    other = Rule("0000000b", "Door", RuleKind.NEW_PERSON, 1)
    events.put_rule(other)
    sent = {
        "a": Delivery("https://hooks.example.org/***", DeliveryState.DELIVERED, 3, 5.0),
        "b": Delivery("https://x.example/***", DeliveryState.RETRYING, 2, 5.0, "It said 503."),
    }
    jpeg, _ = square_scene(1)
    expect(page.locator("#empty")).to_contain_text("Nothing has happened yet")
    happen(events, SMILES, "hall", picture=jpeg, deliveries=sent)
    expect(page.locator(".event")).to_have_count(1)
    happen(events, other, "door")
    items = page.locator(".event")
    expect(items).to_have_count(2)
    expect(items.nth(1)).to_contain_text("Face 4: Happy 81%")
    expect(items.nth(1)).to_contain_text("delivered")
    expect(items.nth(1).locator("[data-state=retrying]")).to_contain_text("It said 503.")
    expect(page.locator("#said")).to_have_text("Door, door")
    assert violations(page) == []
    assert items.nth(1).locator("img").evaluate("image => image.decode().then(() => true)")
    items.nth(1).get_by_role("button", name="Enlarge").click()
    expect(page.locator("#picture-dialog img")).to_be_visible()
    face = page.locator(".framed i").bounding_box()
    whole = page.locator(".framed img").bounding_box()
    assert face is not None
    assert whole is not None
    assert face["x"] - whole["x"] == pytest.approx(10 / 640 * whole["width"], abs=1)
    assert face["height"] == pytest.approx(40 / 480 * whole["height"], abs=1)
    page.keyboard.press("Escape")
    page.get_by_label("Rule", exact=True).select_option(label="Door")
    expect(items).to_have_count(1)
    page.get_by_label("Rule", exact=True).select_option(label="all rules")
    page.get_by_label("Feed", exact=True).select_option(label="hall")
    expect(items).to_have_count(1)
    expect(items).to_contain_text("Smiles")
    items.get_by_role("button", name="Delete the event").click()
    page.locator("#remove-dialog .danger").click()
    expect(page.locator("#empty:visible")).to_have_text("No event fits this choice.")
    assert [kept.event.rule for kept in events.events()] == [other.id]
    assert events.events()[0].has_picture is False


def test_a_test_shows_how_its_delivery_goes(page: Page, events: EventBus) -> None:
    events.put_rule(SMILES)
    page.get_by_role("button", name="Send a test event of Smiles").click()
    item = page.locator(".event")
    expect(item).to_contain_text("A test; nothing has happened.")
    expect(item.locator("[data-state=waiting]")).to_contain_text("https://hooks.example.org/***")
    (due,) = events.due()
    done = Delivery(due.delivery.to, DeliveryState.GIVEN_UP, 1, 5.0, "It said 410.")
    assert events.settle("test", due, done, None)
    expect(item.locator("[data-state=given_up]")).to_contain_text("It said 410.")


def test_the_page_says_when_nothing_looks_for_events_and_speaks_german(
    server: Server, bus: Bus, browser: Any
) -> None:
    words = EventBus(bus.url)
    words.put_rule(SMILES)
    event = Event.of(SMILES, feed="", feed_name="", at=1.0, test=True)
    words.add_test(event, {})
    with contextlib.closing(words):
        context = browser.new_context(locale="de-DE", viewport={"width": 390, "height": 844})
        page = context.new_page()
        page.goto(f"{server.url}/events")
        expect(page.locator("#notice")).to_contain_text("Zurzeit sucht nichts nach Ereignissen")
        expect(page.locator(".rule-what")).to_have_text(
            "Wenn Fröhlich über 60\N{NO-BREAK SPACE}% liegt, 3 s lang, bei allen Quellen"
        )
        expect(page.locator(".event")).to_contain_text("Ein Test")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        context.close()
