"""The report in a real browser: how it looks at phone and desk width, by day and by night; what plays, keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.browser import BOXES, DURATIONS, PLAY, VIEWS, check_layout, chromium, opened
from tests.inspect_tree import Row, rows, tree
from whispertune.inspect.run import Options, inspect_data
from whispertune.model.load import ModelFolder

HOSTILE = "</p></script><script>document.title = 'taken'; alert('x')</script><img src=x onerror=alert(1)> \"'&"
ARABIC = "وتحدثوا طويلا عن الطقس في القرية"


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
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    """The open report, on a phone."""
    with opened(browser, report, *VIEWS[0]) as found:
        yield found


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_it_fits_can_be_read_and_its_tables_scroll(browser: Any, report: Path, width: int, scheme: str) -> None:
    with opened(browser, report, width, scheme) as page:
        check_layout(page, scheme)
        boxes = page.evaluate(BOXES)
        assert len(boxes) >= 5
        assert all(box["tab"] == 0 for box in boxes)
        assert width > 1000 or any(box["moved"] for box in boxes)


def test_the_audio_plays(page: Any) -> None:
    durations = page.evaluate(DURATIONS)
    assert len(durations) == 22
    assert all(isinstance(each, (int, float)) and 0.9 < each < 31 for each in durations)
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
