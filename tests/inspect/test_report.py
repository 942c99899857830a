"""The report and its parts: nothing that a row says becomes markup, and what is drawn is what was counted."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from tests.hub_client import connected
from tests.hub_datasets import fleurs
from tests.hub_server import Hub
from tests.inspect_tree import Row, rows, tree
from whispertune.data.audio import AudioReader
from whispertune.data.clean import CleanRules
from whispertune.data.segments import SourceData, SourceSpec
from whispertune.drawing.charts import bin_edges, boxes, distribution
from whispertune.drawing.markup import element
from whispertune.drawing.page import check_target
from whispertune.drawing.png import encode_png, palette
from whispertune.errors import InputError, RecipeError
from whispertune.evaluation.clips import audio_share, encode, make_clip, spectrogram
from whispertune.inspect.report import MAKER
from whispertune.inspect.run import CLIPS_BYTES, Inspection, Options, inspect_data
from whispertune.inspect.samples import choose
from whispertune.inspect.sets import parse_columns
from whispertune.inspect.survey import PackedStep, Survey, read_cleaned, survey
from whispertune.model.load import ModelFolder
from whispertune.recipe import Clean
from whispertune.windows.pack import Limits

HOSTILE = "<script>alert('x')</script> \"></p><img src=x onerror=alert(1)> & so on"
RULES = CleanRules(**Clean().model_dump())


class Page(HTMLParser):
    """What a parser makes of a page: its elements, and the text outside of the style."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.styles: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        (self.styles if self.lasttag == "style" and data.strip() else self.texts).append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Inspection, Page]:
    """The report of a source in which every text, speaker and reason is an attack."""
    folder = tmp_path_factory.mktemp("hostile")
    attacks = [Row(f"h{number}", 4.0, f"{HOSTILE} {number}", f"{HOSTILE} {number % 2}") for number in range(6)]
    tree(folder / "talks", [*rows(), *attacks, Row("long", 31.0, HOSTILE, HOSTILE)])
    out = folder / "report.html"
    found = inspect_data(str(folder / "talks"), Options(quick=True), out=out)
    return found, Page(out.read_text(encoding="utf-8"))


def test_what_rows_say_stays_text(hostile: tuple[Inspection, Page]) -> None:
    _, page = hostile
    assert not page.of("script")
    assert not any("onerror" in attributes for _, attributes in page.elements)
    assert all((image["src"] or "").startswith("data:image/png;base64,") for image in page.of("img"))
    assert sum(text.startswith(HOSTILE) for text in page.texts) >= 3


def test_the_page_loads_and_allows_nothing(hostile: tuple[Inspection, Page]) -> None:
    _, page = hostile
    (policy,) = (each["content"] or "" for each in page.of("meta") if "http-equiv" in each)
    assert policy.startswith("default-src 'none'; img-src data:; media-src data:;")
    (style,) = page.styles
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy
    for _, attributes in page.elements:
        assert "style" not in attributes  # the policy would refuse it
        for name in ("src", "href"):
            value = attributes.get(name) or "data:"
            assert value.startswith(("data:", "#"))


def test_everything_is_named_for_those_who_do_not_see(hostile: tuple[Inspection, Page]) -> None:
    _, page = hostile
    assert all(image["alt"] for image in page.of("img"))
    assert all(player["aria-label"] for player in page.of("audio"))
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in page.of("svg"))
    assert len(page.of("caption")) == len(page.of("table")) > 2
    headings = [int(name[1]) for name, _ in page.elements if re.fullmatch(r"h[1-6]", name)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(headings))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_ten_random_and_ten_extreme_samples_play(hostile: tuple[Inspection, Page]) -> None:
    found, page = hostile
    players = page.of("audio")
    assert len(players) == 20
    for player in players:
        kind, _, content = (player["src"] or "").partition(";base64,")
        samples, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(content)))
        assert kind == "data:audio/flac"
        assert rate_hz == 16_000
        assert len(samples) >= 16_000
    assert found.report is not None
    assert found.report.stat().st_size < 1.1 * CLIPS_BYTES


def test_json_holds_all_numbers(hostile: tuple[Inspection, Page]) -> None:
    found, _ = hostile
    (numbers,) = json.loads(json.dumps(found.as_json(), allow_nan=False))["sets"]
    assert numbers["rows"] == 30
    assert [(group["name"], group["rows"]) for group in numbers["dropped"]] == [("longer than 30 s", 1)]


def test_only_a_report_is_overwritten(hostile: tuple[Inspection, Page], tmp_path: Path) -> None:
    found, _ = hostile
    assert found.report is not None
    check_target(found.report, MAKER)
    other = tmp_path / "thesis.html"
    other.write_text("<!doctype html><title>My thesis</title>")
    with pytest.raises(InputError, match="is no report of whispertune inspect"):
        inspect_data(found.source, Options(quick=True), out=other)
    assert "My thesis" in other.read_text()
    with pytest.raises(InputError, match="is a folder"):
        check_target(tmp_path, MAKER)
    with pytest.raises(InputError, match="no such folder"):
        check_target(tmp_path / "nowhere" / "report.html", MAKER)


def recipe(folder: Path, extra: str = "") -> Path:
    path = folder / "recipe.toml"
    path.write_text(
        f'model = "nobody/has-this-model"\nlanguage = "sv"\n{extra}\n[[data.train]]\nsource = "train"\n'
        '[[data.train]]\nsource = "more"\n[[data.dev]]\nsource = "dev"\n'
    )
    return path


def test_a_recipe_is_looked_at_as_training_reads_it(tmp_path: Path) -> None:
    shared = Row("same", 3.0, "den här meningen står i båda mängderna", "ann", seed=99)
    tree(tmp_path / "train", [*rows(6), shared])
    tree(tmp_path / "more", [Row("m", 2.0, "ETT TILL FRÅN EN ANNAN KÄLLA", seed=50), Row("s", 2.0, "tyst", gain=0.0)])
    tree(tmp_path / "dev", [shared, Row("other", 2.0, "något helt annat sägs här", "bo", seed=98)])
    path = recipe(tmp_path, '[clean]\ncase = "lower"')
    found = inspect_data(str(path), Options())
    train, dev = found.sets
    assert (train.name, train.rows, dev.name, dev.rows) == ("train", 8, "dev", 2)
    assert [group.name for group in train.dropped] == ["no speech"]
    assert (found.tokenizer, found.report) == (None, None)
    offline, leak, *_ = found.notes
    assert offline.startswith("tokens were not counted: the model hub gave no nobody/has-this-model")
    assert "1 of the rows of train are in dev too" in leak
    assert "clean.leakage is error" in leak
    with pytest.raises(InputError, match="--language is for a source"):
        inspect_data(str(path), Options(language="sv"))
    assert inspect_data(str(path), Options(limit_rows=1, quick=True)).sets[0].rows == 2  # one of each source


def test_speakers_of_train_in_dev_are_a_note(tmp_path: Path) -> None:
    tree(tmp_path / "train", rows(6))
    tree(tmp_path / "more", [Row("m", 2.0, "ett till från en annan källa", seed=50)])
    tree(tmp_path / "dev", [Row("other", 2.0, "något helt annat sägs här", "bo", seed=98)])
    notes = inspect_data(str(recipe(tmp_path)), Options(quick=True)).notes
    assert any("1 of 1 speakers of dev speak in train too" in note for note in notes)


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        (Options(suspects=True), InputError, "add --model"),
        (Options(columns=(("txt", "sentence"),)), RecipeError, "did you mean 'text'"),
        (Options(task="summarise"), RecipeError, "transcribe"),
        (Options(model="no such model"), InputError, "no model"),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, options: Options, error: type[Exception], told: str) -> None:
    folder = tree(tmp_path / "talks", rows(3))
    with pytest.raises(error, match=told):
        inspect_data(str(folder), options)


def test_columns_are_read(tmp_path: Path) -> None:
    folder = tree(tmp_path / "talks", rows(3))
    metadata = folder / "metadata.jsonl"
    metadata.write_text(metadata.read_text().replace('"text"', '"sentence_sv"'))
    columns = parse_columns(["text=sentence_sv"])
    assert inspect_data(str(folder), Options(columns=columns, quick=True)).sets[0].rows == 3
    with pytest.raises(InputError, match="not a column"):
        parse_columns(["sentence_sv"])


def look(folder: Path, reader: AudioReader, base: ModelFolder | None = None) -> Survey:
    data = read_cleaned(SourceSpec(str(folder)), RULES, reader)
    return survey("talks", data, RULES, reader, PackedStep(Limits(), 16), base.vocabulary if base else None)


def test_samples_are_the_extreme_ones_and_none_twice(tmp_path: Path, reader: AudioReader) -> None:
    found = look(tree(tmp_path / "talks", rows(30)), reader)
    drawn, extreme = choose(found)
    assert (len(drawn), len(extreme)) == (10, 10)
    assert len({each.row for each in (*drawn, *extreme)}) == 20
    by_why = {each.why: each.row for each in reversed(extreme)}
    assert list(dict.fromkeys(each.why for each in extreme)) == [
        *("longest", "shortest", "fastest", "slowest", "quietest", "noisiest")
    ]
    durations_s = found.table.durations_s
    assert by_why["longest"] == int(durations_s.argmax())
    assert by_why["shortest"] == int(durations_s.argmin())


@pytest.mark.parametrize("count", [0, 1, 2, 5, 13])
def test_a_small_set_shows_what_it_has(count: int, tmp_path: Path, reader: AudioReader) -> None:
    folder = tree(tmp_path / "talks", rows(max(1, count)))
    found = look(folder, reader)
    if not count:
        found = survey("none", SourceData(()), RULES, reader, PackedStep(Limits(), 16))
    drawn, extreme = choose(found)
    assert len(drawn) + len(extreme) == count
    assert len(extreme) <= count // 2 + 1


def test_a_clip_whose_audio_is_gone_says_so(tmp_path: Path) -> None:
    folder = tree(tmp_path / "talks", rows(3))
    with AudioReader() as fresh:
        found = look(folder, fresh)
        (folder / "1.wav").write_bytes(b"no longer audio")
        clip = make_clip(found.table[1], fresh, 100_000)
    assert clip.audio == b""
    assert clip.trouble


def test_clips_get_smaller_where_many_share_the_page() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 30 * 16_000).astype(np.float32)  # the worst to compress
    kind, content = encode(noise, audio_share(80, CLIPS_BYTES))
    assert kind == "audio/ogg"
    assert len(content) < 100_000
    samples, rate_hz = soundfile.read(io.BytesIO(content))
    assert len(samples) / rate_hz == pytest.approx(30, abs=0.05)
    kind, content = encode(noise[:16_000], audio_share(80, CLIPS_BYTES))
    assert kind == "audio/flac"
    samples, _ = soundfile.read(io.BytesIO(content), dtype="float32")
    assert np.abs(samples - noise[:16_000]).max() < 2 / 32768


def test_spectrograms_show_where_the_tone_is() -> None:
    time = np.arange(2 * 16_000) / 16_000
    tone = (0.5 * np.sin(2 * np.pi * 1000 * time) * (time > 1)).astype(np.float32)
    pixels = decoded(spectrogram(tone))
    lightness = pixels.astype(float).sum(axis=2)  # (80, 100)
    assert lightness.shape == (80, 100)
    assert lightness[:, 55:].mean() > lightness[:, :45].mean()
    loudest = lightness[:, 75].argmax()
    assert 40 < loudest < 60  # 1 kHz is mel band 26 or so of 80, from below


def decoded(png: bytes) -> np.ndarray:  # type: ignore[type-arg]
    """A PNG as another decoder reads it, (height, width, 3)."""
    import av

    with av.open(io.BytesIO(png), format="png_pipe") as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def test_pngs_are_what_was_drawn() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (37, 53), dtype=np.uint8)
    np.testing.assert_array_equal(decoded(encode_png(levels)), palette()[levels])


def test_lighter_colours_mean_more() -> None:
    linear = np.where(palette() > 10, ((palette() / 255 + 0.055) / 1.055) ** 2.4, palette() / 255 / 12.92)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) > -1e-3).all()
    assert luminance[0] < 0.02
    assert luminance[-1] > 0.8


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=50), st.booleans())
def test_bins_hold_every_value(values: list[float], whole: bool) -> None:
    values = [round(value, 0 if whole else 6) for value in values]
    edges = bin_edges(min(values), max(values), whole)
    assert 2 <= len(edges) <= 60
    assert np.histogram(values, edges)[0].sum() == len(values)


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=50))
def test_bars_add_up_to_all_rows(values: list[float]) -> None:
    drawing = distribution(np.array(values), "Level", "dBFS")
    assert sum(map(int, re.findall(r": (\d+) rows</title>", drawing))) == len(values)


def test_bars_say_how_many_rows_they_are() -> None:
    drawing = distribution(np.array([1.0, 1.2, 1.4, 9.0, np.nan]), "Duration", "seconds")
    assert sum(map(int, re.findall(r": (\d+) rows</title>", drawing))) == 4
    assert "median 1.3" in drawing
    assert not distribution(np.array([np.nan, -np.inf]), "Level", "dBFS")


def test_boxes_need_two_and_escape_names() -> None:
    assert not boxes({"ann": np.array([1.0])}, "Duration", "seconds")
    drawn = boxes({"<b>": np.array([1.0, 2.0]), "a very long name of somebody": np.array([2.0])}, "Duration", "seconds")
    assert "<b>" not in drawn
    assert "a very long n…" in drawn


@given(st.text())
def test_no_text_becomes_markup(text: str) -> None:
    page = Page(element("p", text, title=text).replace("\r", ""))
    assert [name for name, _ in page.elements] == ["p"]


def test_a_stream_is_looked_at_by_its_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = '[[data.train]]\nsource = "hub:google/fleurs:sv_se:train"\nstreaming = true\n'
    (tmp_path / "recipe.toml").write_text(f'model = "nobody/has-this-model"\n{source}')
    with Hub() as hub, connected(hub, tmp_path / "home", monkeypatch):
        hub.add_repo("google/fleurs", fleurs())
        found = inspect_data(str(tmp_path / "recipe.toml"), Options(limit_rows=4))
    (train,) = found.sets
    assert train.rows == 4
    assert [group.name for group in train.languages] == ["sv"]
    (note,) = train.notes
    assert note.startswith("hub:google/fleurs:sv_se:train is streamed: these are the first 4 of its rows, none of")
