"""Every text of the pages is in both languages, and nowhere but in the catalogues."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from playwright.sync_api import Browser, Page, expect

from shared.bus import Bus
from shared.config import PROJECT_DIR
from shared.schema import CaptureReport, FeedState, Trouble
from tests import builders
from tests.web.conftest import PASSWORD, Server, settings
from web import close_app, create_app
from web.language import TEXTS

STATIC = PROJECT_DIR / "web" / "static"
TEMPLATES = sorted((PROJECT_DIR / "web" / "templates").rglob("*.html"))
MODULES = sorted(
    path
    for path in STATIC.rglob("*.js")
    if path.parent.name not in ("vendor", "texts") and path.name != "texts.js"
)
GERMAN = {"Accept-Language": "de-AT,de;q=0.9,en;q=0.5"}
NAMES = {"Moodline"}  # the same in every language

# Every text as [path, kind, what it says]: functions are asked with arguments that can be anything.
_LEAVES = """
async ([language]) => {
  const { default: texts } = await import(`/assets/x/texts/${language}.js`);
  const anything = new Proxy(function () {}, {
    get: (_, key) => {
      if (key === Symbol.toPrimitive) return (hint) => (hint === "number" ? 7 : "7");
      if (key === Symbol.iterator) return undefined;
      return anything;
    },
    apply: () => "7",
  });
  const leaves = [];
  const walk = (value, path) => {
    if (typeof value === "function") {
      const said = value(...Array(value.length).fill(anything));
      leaves.push([path, `function of ${value.length}`, said === anything ? "7" : said]);
    } else if (typeof value === "object") {
      for (const [key, inner] of Object.entries(value)) walk(inner, path ? `${path}.${key}` : key);
    } else leaves.push([path, typeof value, value]);
  };
  walk(texts, "");
  return leaves;
}
"""

Leaves = dict[str, tuple[str, Any]]


@pytest.fixture(scope="module")
def catalogues(browser: Browser, server: Server) -> dict[str, Leaves]:
    page = browser.new_page()
    page.goto(f"{server.url}/login")
    catalogues = {
        language: {path: (kind, said) for path, kind, said in page.evaluate(_LEAVES, [language])}
        for language in ("en", "de")
    }
    page.close()
    return catalogues


@pytest.fixture
def guarded(bus: Bus, tmp_path: Path) -> Iterator[FlaskClient]:
    app = create_app(settings(tmp_path, password=PASSWORD), bus)
    yield app.test_client()
    close_app(app)


def test_both_languages_have_the_same_texts_of_the_same_kinds(
    catalogues: dict[str, Leaves],
) -> None:
    english, german = ({p: kind for p, (kind, _) in each.items()} for each in catalogues.values())
    assert english == german
    assert TEXTS["en"].keys() == TEXTS["de"].keys()
    for key, text in TEXTS["en"].items():
        assert text.count("{}") == TEXTS["de"][key].count("{}"), key


@pytest.mark.parametrize("language", ["en", "de"])
def test_every_text_says_something(catalogues: dict[str, Leaves], language: str) -> None:
    for path, (kind, said) in catalogues[language].items():
        assert isinstance(said, str), (path, kind)
        assert said.strip(), path
        assert not re.search(r"undefined|NaN|\[object", said), (path, said)


def test_every_kind_of_error_of_a_source_has_a_german_sentence(
    browser: Browser, server: Server
) -> None:
    page = browser.new_page()
    page.goto(f"{server.url}/login")
    said = page.evaluate(
        """async (kinds) => {
          const { default: texts } = await import("/assets/x/texts/de.js");
          return kinds.map((kind) => texts.trouble(kind, "rtsp://***@host/x", "English."));
        }""",
        [*Trouble, "what a newer server says"],
    )
    page.close()
    *sentences, unknown = said
    assert unknown == "English."
    assert len(set(sentences)) == len(Trouble)
    for sentence in sentences:
        assert sentence.endswith("."), sentence
        assert "English" not in sentence
        assert not re.search(r"(?<![.:?!] )\b(?:Sie|Ihre?[mnrs]?)\b|\bbitte\b", sentence), sentence


def test_a_german_page_tells_in_german_why_a_feed_gives_no_pictures(
    server: Server, bus: Bus, browser: Browser
) -> None:
    bus.put_feed(builders.feed())
    error = "It does not answer: check it."
    report = CaptureReport(FeedState.RECONNECTING, error, trouble=Trouble.SILENT)
    for path, where in (("/", ".veil"), ("/cameras", ".camera-trouble")):
        for locale, said in (("de-DE", "antwortet nicht"), ("en-GB", error)):
            page = browser.new_page(locale=locale)
            bus.report_capture("cam", report)  # it counts for some seconds
            page.goto(server.url + path)
            expect(page.locator(where).first).to_contain_text(said)
            page.close()


def test_no_sentence_is_left_in_the_other_language(catalogues: dict[str, Leaves]) -> None:
    for path, (_, said) in catalogues["en"].items():
        if re.search(r"[a-z]{2,} [a-z]{2,}", said):
            assert said != catalogues["de"][path][1], path


def test_german_addresses_nobody(catalogues: dict[str, Leaves]) -> None:
    for path, (_, said) in catalogues["de"].items():
        # At the beginning of a sentence it may be "its" or "their".
        polite = r"(?<!^)(?<![.:?!] )\b(?:Sie|Ihnen|Ihre?[mnrs]?)\b"
        assert not re.search(rf"{polite}|\b(?:bitte|[Dd]u|[Dd]ein\w*)\b", said), path


def test_every_text_that_a_page_names_exists(catalogues: dict[str, Leaves]) -> None:
    paths = catalogues["en"].keys()
    for template in TEMPLATES:
        for name in re.findall(r'data-(?:text|label)="([\w.]+)"', template.read_text()):
            assert name in paths, (template.name, name)


def test_every_text_that_a_script_names_exists(catalogues: dict[str, Leaves]) -> None:
    known = {
        ".".join(path.split(".")[:n])
        for path in catalogues["en"]
        for n in range(1, path.count(".") + 2)
    }
    for module in MODULES:
        for name in re.findall(r"(?<![.\w])text\.([a-z]\w*(?:\.[a-z]\w*)*)", module.read_text()):
            # What follows a text may be a method of strings: the longest known part must be one.
            parts = name.split(".")
            assert ".".join(parts[: max(1, len(parts) - 1)]) in known, (module.name, name)
            assert name in known or f"{'.'.join(parts[:-1])}" in catalogues["en"], (
                module.name,
                name,
            )


class _Visible(HTMLParser):
    """The texts of a template that somebody would read or hear."""

    _SPOKEN = ("title", "alt", "placeholder", "aria-label", "aria-valuetext")

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.texts += [value or "" for name, value in attrs if name in self._SPOKEN]


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_no_page_carries_a_text_of_its_own(template: Path) -> None:
    # These blocks name classes, elements and texts; the base puts them into attributes.
    names = r"\{% block (?:body_class|target|skip) %\}[\w. ]*\{% endblock %\}"
    source = re.sub(names, "", template.read_text())
    source = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", "", source, flags=re.DOTALL)
    page = _Visible()
    page.feed(source)
    for text in page.texts:
        assert text.strip() in NAMES or not re.search(r"[^\W\d_]", text), text


_SHOWN = re.compile(
    r"(?:\.(?:textContent|innerText|title|placeholder|ariaLabel|alt) \??\|?\|?= *"
    r"|setAttribute\(\"(?:aria-label|aria-valuetext|aria-description|title|placeholder|alt)\", *"
    r"|\.(?:append|prepend|before|after|fillText|strokeText)\( *)"
    r"[\"'`](?:[^\"'`$]*[^\W\d_]{2})"
)
_SENTENCE = re.compile(r"[\"`][A-Z][a-z]+ [a-z]{2,}[^\"`\n]*[\"`]")


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_no_script_carries_a_text_of_its_own(module: Path) -> None:
    for number, line in enumerate(module.read_text().splitlines(), 1):
        code = re.sub(r"(?<!:)//.*", "", line)
        assert not _SHOWN.search(code), f"{module.name}:{number}: {code.strip()}"
        assert not _SENTENCE.search(code), f"{module.name}:{number}: {code.strip()}"


@pytest.mark.parametrize(
    ("headers", "chosen", "language"),
    [
        ({}, "", "en"),
        ({"Accept-Language": "fr, it;q=0.8"}, "", "en"),
        (GERMAN, "", "de"),
        (GERMAN, "en", "en"),
        ({}, "de", "de"),
        ({}, "<script>", "en"),
    ],
)
def test_a_page_is_in_the_chosen_language_else_in_the_browsers(
    client: FlaskClient, headers: dict[str, str], chosen: str, language: str
) -> None:
    client.set_cookie("moodline_language", chosen)
    for path in ("/", "/videos"):
        page = client.get(path, headers=headers)
        assert f'<html lang="{language}">' in page.text
        assert "Accept-Language" in page.headers["Vary"]


def test_what_works_without_scripts_is_in_both_languages(guarded: FlaskClient) -> None:
    assert "Passwort" in guarded.get("/login", headers=GERMAN).text
    wrong = guarded.post("/login", data={"password": "no"}, headers=GERMAN)
    assert "Das ist nicht das Passwort." in wrong.text
    guarded.post("/login", data={"password": PASSWORD})
    navigating = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", **GERMAN}
    assert "keine Seite" in guarded.get("/nope", headers=navigating).text


def test_the_language_is_chosen_before_logging_in(guarded: FlaskClient) -> None:
    login = "/login?to=%2Fvideos"
    chosen = guarded.post("/language", data={"language": "de", "to": login})
    assert (chosen.status_code, chosen.headers["Location"]) == (303, login)
    assert "HttpOnly" in chosen.headers["Set-Cookie"]
    assert '<html lang="de">' in guarded.get(login).text


@pytest.mark.parametrize(
    "to", ["//evil.example", "https://evil.example", "/\\evil.example", "/x\r\nX: y", "javascript:"]
)
def test_choosing_a_language_leads_to_no_other_site(client: FlaskClient, to: str) -> None:
    assert client.post("/language", data={"language": "de", "to": to}).headers["Location"] == "/"


def test_a_language_that_there_is_not_changes_nothing(client: FlaskClient) -> None:
    assert "Set-Cookie" not in client.post("/language", data={"language": "xx"}).headers


def test_the_switch_changes_the_language_of_the_page_for_good(
    server: Server, open_page: Callable[..., Page], complaints: list[str]
) -> None:
    page = open_page(f"{server.url}/videos?from=here#all")
    expect(page.get_by_role("button", name="Choose videos")).to_be_visible()
    page.get_by_role("button", name="Deutsch").click()
    expect(page.get_by_role("button", name="Videos auswählen")).to_be_visible()
    assert page.url.endswith("/videos?from=here#all")
    assert page.locator("html").get_attribute("lang") == "de"
    page.goto(f"{server.url}/")
    expect(page.get_by_role("heading", name="Noch nichts zu sehen")).to_be_visible()
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("heading", name="Nothing to watch yet")).to_be_visible()
    assert not complaints


@pytest.mark.parametrize(
    ("locale", "percent", "number"),
    [("en-GB", "62%", "1,234.5"), ("de-DE", "62\N{NO-BREAK SPACE}%", "1.234,5")],
)
def test_figures_are_written_as_the_language_writes_them(
    server: Server, browser: Browser, locale: str, percent: str, number: str
) -> None:
    page = browser.new_page(locale=locale)
    page.goto(f"{server.url}/login")
    script = (
        "async () => { const t = await import('/assets/x/texts.js');"
        " return [t.percent(0.62), t.number(1234.5, 1)]; }"
    )
    assert page.evaluate(script) == [percent, number]
    page.close()
