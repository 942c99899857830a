"""The pages of evaluate, compare, soften and diagnose in a real browser: phone and desk, by day and by night."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.browser import DURATIONS, PLAY, VIEWS, check_layout, chromium, opened
from tests.diagnose_curves import evaluated, steps_of, still_falling
from tests.examined import PARTS, evaluation, examination, figures
from whispertune.data.audio import AudioReader
from whispertune.diagnose.history import History
from whispertune.diagnose.report import page_of as diagnosis_page
from whispertune.diagnose.run import Diagnosis, Material, findings_of
from whispertune.drawing.page import write_page
from whispertune.evaluation.compare import comparison
from whispertune.evaluation.compare import page_of as comparison_page
from whispertune.evaluation.report import page_of as evaluation_page
from whispertune.evaluation.report import worst_clips
from whispertune.evaluation.tokens import RowLoss
from whispertune.evaluation.tradeoff import Point, TradeOff
from whispertune.evaluation.tradeoff import page_of as soften_page

HOSTILE = "<script>document.title = 'taken'</script><img src=x onerror=alert(1)>"
LONG = "runs/" + "a-name-without-any-place-to-break-it-" * 4


def evaluated_page(folder: Path) -> str:
    """All that can be asked for, with the worst clips, one of which is not there."""
    tuned = evaluation(rows=24, folder=folder)
    for segment in tuned.segments[:-1]:
        samples = np.random.default_rng(len(segment.id)).normal(0, 0.1, round(16_000 * segment.duration_s))
        soundfile.write(str(segment.recording), samples, 16_000)
    found = examination(evaluation(0.5, rows=24), tuned)
    with AudioReader() as reader:
        return evaluation_page(found, worst_clips(found, reader))


def compared_page() -> str:
    base = evaluation(0.5)
    losses = {each.id: RowLoss(3.0, 2) for each in base.utterances}
    rows = comparison({LONG: base, HOSTILE: evaluation(0.1), "c": evaluation(0.6)}, {LONG: losses, "c": losses})
    return comparison_page(rows, f"data/{HOSTILE}")


def softened_page() -> str:
    names = ("english", "silence", f"{LONG} {HOSTILE}")
    points = [
        Point(share, figures(50 - 30 * share), {name: figures(10 + 5 * share**3) for name in names})
        for share in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    return soften_page(TradeOff(tuple(points), 0.05), HOSTILE)


def diagnosed_page() -> str:
    history = History(steps_of(still_falling), evaluated((90.0, 75.0, 66.0, 60.0), (2.0, 1.9, 1.8, 1.7)))
    material = Material(history)
    return diagnosis_page(Diagnosis(f"{LONG} {HOSTILE}", material, findings_of(material)))


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    made = {
        "evaluate": evaluated_page(folder),
        "compare": compared_page(),
        "soften": softened_page(),
        "diagnose": diagnosed_page(),
    }
    for name, text in made.items():
        write_page(folder / f"{name}.html", text)
    return {name: folder / f"{name}.html" for name in made}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
@pytest.mark.parametrize("name", ["evaluate", "compare", "soften", "diagnose"])
def test_it_opens_quietly_fits_and_can_be_read(
    browser: Any, pages: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    with opened(browser, pages[name], width, scheme) as page:
        check_layout(page, scheme)
        assert page.locator("h1").count() == 1
        assert "taken" not in page.title().partition("<")[0]
        assert page.locator("footer").inner_text().startswith(f"Written by whispertune {name} on ")


def test_the_report_of_an_evaluation_has_all_parts_and_plays(browser: Any, pages: dict[str, Path]) -> None:
    with opened(browser, pages["evaluate"], 375, "light") as page:
        links = page.evaluate("[...document.querySelectorAll('nav a')].map(each => each.hash.slice(1))")
        assert links == PARTS
        for link in links:
            assert page.locator(f"[id='{link}'] h2").count() == 1
        durations = page.evaluate(DURATIONS)
        assert len(durations) >= 10
        assert all(isinstance(each, int | float) and 2.9 < each < 13 for each in durations)
        assert page.evaluate(PLAY) > 0
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.hash") == "#rates"


def test_the_page_of_a_comparison(browser: Any, pages: dict[str, Path]) -> None:
    with opened(browser, pages["compare"], 375, "dark") as page:
        assert page.locator("tbody th[scope=row]").all_inner_texts() == [LONG, HOSTILE, "c"]
        titles = page.locator("thead th").all_inner_texts()
        assert "loss, teacher-forced" in titles
        assert page.locator(".notes li").count() == 3
        assert page.locator("#further li").count() == 1
        assert page.locator("figure svg").count() == 2


def test_the_page_of_a_softening(browser: Any, pages: dict[str, Path]) -> None:
    with opened(browser, pages["soften"], 375, "light") as page:
        assert page.locator("tbody tr").count() == 5
        assert page.locator("td", has_text="chosen").count() == 1
        assert page.locator("figure svg").count() == 2
        assert page.locator("p.lead").inner_text().startswith("Chosen: lambda 0.25")


def test_the_page_of_a_diagnosis(browser: Any, pages: dict[str, Path]) -> None:
    with opened(browser, pages["diagnose"], 375, "dark") as page:
        heads = page.locator("h2").all_inner_texts()
        assert heads[0].startswith("1. ")
        assert heads[-1] == "Curves"
        assert page.locator("figure svg").count() == 3
        assert page.locator("h3", has_text="To change").count() == len(heads) - 1


def test_a_model_may_have_any_name(pages: dict[str, Path]) -> None:
    assert all("<script" not in path.read_text(encoding="utf-8") for path in pages.values())
