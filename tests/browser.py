"""Pages in a real browser: open, and quiet; what they look like, and whether what can be heard can be played.

    with chromium() as browser, opened(browser, Path("report.html"), 375, "dark") as page:
        check_layout(page)

Whatever the browser complains of, asks for or is made to show while a page is open fails the test.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.required import lacking

VIEWS = [(375, "light"), (375, "dark"), (1280, "light"), (1280, "dark")]  # (width, by day or by night)
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
BOXES = """[...document.querySelectorAll('.scroll')].map(box => {
  const before = box.scrollLeft;
  box.scrollLeft = 1e6;
  const moved = box.scrollLeft > before;
  box.scrollLeft = before;
  return {right: box.getBoundingClientRect().right, wide: box.scrollWidth > box.clientWidth, moved, tab: box.tabIndex};
})"""


@contextmanager
def chromium(*more: str) -> Iterator[Any]:
    """The browser of this machine, with more arguments."""
    path = shutil.which("chromium")
    if path is None:
        lacking("there is no chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*ARGUMENTS, *more])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, path: Path, width: int, scheme: str) -> Iterator[Any]:
    """A page that is open; at the end, that nothing was asked for, and nobody complained."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda asked: asked.url.startswith(("file:", "data:")) or troubles.append(asked.url))
    page.goto(path.as_uri())
    yield page
    page.close()
    assert troubles == []


def unfold(page: Any) -> None:
    """Show all that is folded up."""
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")


def check_layout(page: Any, scheme: str) -> None:
    """That nothing sticks out sideways, all text can be read, tables scroll in their own boxes, and night is dark."""
    unfold(page)
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 10
    assert min(contrasts) > [4.5]
    for box in page.evaluate(BOXES):
        assert box["right"] <= width
        assert box["moved"] == box["wide"]
        assert box["tab"] == 0 or not box["wide"]  # whoever has no mouse scrolls with the keys
    assert page.evaluate("document.scripts.length") == 0
    red = int(page.evaluate("getComputedStyle(document.body).backgroundColor").removeprefix("rgb(").split(",")[0])
    assert red < 60 if scheme == "dark" else red > 230
