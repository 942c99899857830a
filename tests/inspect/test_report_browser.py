"""The report in a real browser: at phone and desk width, by day and by night."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.inspect_tree import Row, rows, tree
from whispertune.inspect.run import Options, inspect_data
from whispertune.model.load import ModelFolder

HOSTILE = "</p></script><script>document.title = 'taken'; alert('x')</script><img src=x onerror=alert(1)> \"'&"
ARABIC = "وتحدثوا طويلا عن الطقس في القرية"
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
# The contrast of every text with what lies behind it, by WCAG 2: [ratio, what it is].
CONTRASTS = """() => {
  const parse = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = node => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const node of document.querySelectorAll('body *')) {
    if (![...node.childNodes].some(c => c.nodeType === 3 && c.textContent.trim())) continue;
    if (['title', 'desc'].includes(node.tagName)) continue;
    const style = getComputedStyle(node);
    const own = light(parse(node.tagName === 'text' ? style.fill : style.color)), back = light(behind(node));
    found.push([(Math.max(own, back) + 0.05) / (Math.min(own, back) + 0.05), node.tagName + '.' + node.className]);
  }
  return found;
}"""
PLAY = """async () => {
  const player = document.querySelector('audio');
  player.muted = true;
  await player.play();
  await new Promise(done => player.addEventListener('timeupdate', done, {once: true}));
  await new Promise(done => setTimeout(done, 200));
  player.pause();
  return player.currentTime;
}"""
DURATIONS = """() => Promise.all([...document.querySelectorAll('audio')].map(player => new Promise(done => {
  const tell = () => done(player.error ? player.error.message : player.duration);
  if (player.readyState > 0 || player.error) return tell();
  player.addEventListener('loadedmetadata', tell);
  player.addEventListener('error', tell);
})))"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, base: ModelFolder) -> Path:
    """Two sets with hostile, right-to-left and endless texts, and hundreds of dropped rows."""
    folder = tmp_path_factory.mktemp("report")
    odd = [
        Row("hostile", 6.0, f"{HOSTILE} ett", HOSTILE),
        Row("endless", 7.0, "å" * 90, "n" * 70),
        *(Row(f"lost{number}", 1.0, f"rad {number}", seed=number) for number in range(60)),
    ]
    good = [replace(row, speaker=f"{row.speaker}") for row in rows(20)]
    train = tree(folder / "train", [*good, *odd])
    for number in range(60):
        (train / f"lost{number}.wav").write_bytes(b"RIFF, and nothing behind it")
    tree(folder / "dev", [Row("arabic", 3.0, ARABIC, "هدى"), Row("b", 2.0, f"{ARABIC} اليوم")], language="ar")
    recipe = folder / "recipe.toml"
    sources = '[[data.train]]\nsource = "train"\n[[data.dev]]\nsource = "dev"\n'
    recipe.write_text(f'model = "{base.path.as_posix()}"\n{sources}')
    out = folder / "report.html"
    found = inspect_data(str(recipe), Options(), out=out)
    assert [numbers.rows for numbers in found.sets] == [22, 2]
    return out


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    path = shutil.which("chromium")
    if path is None:
        reason = "there is no chromium on this machine"
        if os.environ.get("WHISPERTUNE_REQUIRE_SHARED"):
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(params=[(390, "light"), (390, "dark"), (1280, "light"), (1280, "dark")], ids=str)
def page(request: pytest.FixtureRequest, chromium: Any, report: Path) -> Iterator[Any]:
    """The open report; whatever the browser complains of, asks for or is made to show fails the test."""
    width, scheme = request.param
    opened = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    troubles: list[str] = []
    opened.on("console", lambda message: troubles.append(message.text))
    opened.on("pageerror", lambda error: troubles.append(str(error)))
    opened.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
    opened.on("request", lambda asked: asked.url.startswith(("file:", "data:")) or troubles.append(asked.url))
    opened.goto(report.as_uri())
    yield opened
    opened.close()
    assert troubles == []


def test_it_fits_plays_and_can_be_read(page: Any) -> None:
    width = page.viewport_size["width"]
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    durations = page.evaluate(DURATIONS)
    assert len(durations) == 22
    assert all(isinstance(each, (int, float)) and 0.9 < each < 31 for each in durations)
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 200
    assert min(contrasts) > [4.5]


def test_night_is_dark_and_day_is_light(page: Any, request: pytest.FixtureRequest) -> None:
    red = int(page.evaluate("getComputedStyle(document.body).backgroundColor").removeprefix("rgb(").split(",")[0])
    assert red < 60 if "dark" in request.node.callspec.id else red > 230


def test_wide_tables_scroll_in_their_own_box(page: Any) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    boxes = page.evaluate(
        "[...document.querySelectorAll('.scroll')].map(box => [box.getBoundingClientRect().right, box.tabIndex])"
    )
    assert len(boxes) >= 5
    assert all(right <= page.viewport_size["width"] for right, _ in boxes)
    assert all(index == 0 for _, index in boxes)  # whoever has no mouse scrolls them too


def test_the_audio_plays(page: Any) -> None:
    assert page.evaluate(PLAY) > 0


def test_what_rows_say_is_text(page: Any) -> None:
    assert page.title().startswith("What is in ")
    assert page.evaluate("document.scripts.length") == 0
    assert page.locator("p.text", has_text="document.title = 'taken'").count() == 1
    arabic = page.locator("p.text", has_text=ARABIC).first
    assert arabic.evaluate("node => getComputedStyle(node).direction") == "rtl"
    assert arabic.get_attribute("lang") == "ar"


def test_keys_lead_through_the_page(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("[document.activeElement.tagName, document.activeElement.hash]") == ["A", "#set-0"]
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.querySelector('#set-1').getBoundingClientRect().top") < 900
