"""Noise and telephones: as loud as asked, the same for all, of what it should be, and told in a plot and a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Segment
from whispertune.decode.engines import live_engine, load_live
from whispertune.errors import DataError, InputError
from whispertune.evaluation.evaluate import Evaluation, Hypothesis, evaluation_of
from whispertune.evaluation.inputs import Source, clip
from whispertune.evaluation.noise import (
    CLEAN,
    TELEPHONE,
    Condition,
    Conditioned,
    change_of,
    conditions_of,
    evaluate_conditions,
    noise_section,
    noise_source,
    parse_ratios,
    rows_of,
)
from whispertune.model.load import ModelFolder
from whispertune.service.data import read_data

RATE_HZ = 16_000
LEVEL = 0.05


def tone(hertz: float, seconds: float = 2.0) -> np.ndarray:
    return (LEVEL * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)).astype(np.float32)


def rows(folder: Path, speakers: Sequence[str | None]) -> list[Segment]:
    """A tone each of 2 s, so that one hears which of them are in a babble."""
    found = []
    for number, speaker in enumerate(speakers):
        path = folder / f"{number}.wav"
        soundfile.write(path, tone(500 * (number + 1)), RATE_HZ)
        found.append(Segment(str(number), path, 0.0, 2.0, "a text", "sv", speaker=speaker))
    return found


def heard_in(babble: np.ndarray) -> set[int]:
    """Which of the rows are in 2 s of babble."""
    spectrum = np.abs(np.fft.rfft(babble))
    return {number for number in range(12) if spectrum[1000 * (number + 1)] > 0.1 * spectrum.max()}


# --- what is asked for -----------------------------------------------------------------------------------------


def test_the_conditions_of_a_list_of_ratios() -> None:
    found = conditions_of(parse_ratios("0, 20,10,-0,20"), "babble")
    assert [each.name for each in found] == ["clean", "babble 20 dB", "babble 10 dB", "babble 0 dB", "telephone"]
    assert (found[0], found[-1]) == (CLEAN, TELEPHONE)
    assert Condition(2.5, "noises/street").name == "street 2.5 dB"


@given(st.lists(st.floats(-60, 60), min_size=1))
def test_any_ratios_come_in_order_and_once(ratios: list[float]) -> None:
    assert parse_ratios(",".join(map(repr, ratios))) == tuple(sorted(set(ratios), reverse=True))


@pytest.mark.parametrize("text", ["", "loud", "20,,5", "nan", "inf", "61"])
def test_what_is_no_ratio_says_so(text: str) -> None:
    with pytest.raises(InputError, match="no signal-to-noise ratio") as raised:
        parse_ratios(text)
    assert raised.value.where == "--noise"


# --- what is heard ---------------------------------------------------------------------------------------------


@pytest.fixture
def street(tmp_path: Path) -> Path:
    """A folder of one recording of noise, one of silence, and one that is none."""
    folder = tmp_path / "street"
    folder.mkdir()
    noise = np.random.default_rng(0).normal(0, 0.02, 5 * RATE_HZ).astype(np.float32)
    soundfile.write(folder / "noise.wav", noise, RATE_HZ)
    soundfile.write(folder / "silent.wav", np.zeros(RATE_HZ, dtype=np.float32), RATE_HZ)
    (folder / "broken.wav").write_bytes(b"nothing to hear")
    return folder


@pytest.mark.parametrize("kind", ["white", "babble", "folder"])
@pytest.mark.parametrize("ratio_db", [20.0, 0.0, -5.0])
def test_noise_is_as_loud_as_asked(
    kind: str, ratio_db: float, street: Path, tmp_path: Path, reader: AudioReader
) -> None:
    data = rows(tmp_path, [None] * 8)
    noise = str(street) if kind == "folder" else kind
    change = change_of(Condition(ratio_db, noise), noise_source(noise, data, reader))
    assert change is not None
    speech = np.pad(tone(440), (0, RATE_HZ))  # and a second of pause, which must not count
    added = change(speech, data[0]) - speech
    ratio = (LEVEL**2 / 2) / np.mean(np.square(added, dtype=np.float64))
    assert 10 * np.log10(ratio) == pytest.approx(ratio_db, abs=0.2)


@pytest.mark.parametrize("kind", ["white", "babble", "folder"])
def test_a_row_has_the_same_noise_at_every_ratio_and_every_time(
    kind: str, street: Path, tmp_path: Path, reader: AudioReader
) -> None:
    data = rows(tmp_path, [None] * 8)
    noise = str(street) if kind == "folder" else kind
    speech = tone(440)
    added = []
    for ratio_db in (20.0, 20.0, 0.0):
        change = change_of(Condition(ratio_db, noise), noise_source(noise, data, reader))
        assert change is not None
        added.append(change(speech, data[1]) - speech)
    assert np.array_equal(added[0], added[1])
    np.testing.assert_allclose(10 * added[0], added[2], atol=1e-5)
    of_another_row = noise_source(noise, data, reader)(data[2], len(speech))
    assert abs(np.corrcoef(added[2], of_another_row)[0, 1]) < 0.95


def test_babble_is_several_other_rows(tmp_path: Path, reader: AudioReader) -> None:
    data = rows(tmp_path, [None] * 10)
    babble = noise_source("babble", data, reader)
    for number, row in enumerate(data):
        voices = heard_in(babble(row, 2 * RATE_HZ))
        assert len(voices) == 6
        assert number not in voices


def test_babble_is_of_other_speakers_where_there_are_enough(tmp_path: Path, reader: AudioReader) -> None:
    data = rows(tmp_path, ["ann"] * 5 + ["bo"] * 2)
    babble = noise_source("babble", data, reader)
    assert heard_in(babble(data[0], 2 * RATE_HZ)) == {5, 6}
    assert heard_in(babble(data[6], 2 * RATE_HZ)) == {0, 1, 2, 3, 4}
    alone = rows(tmp_path, ["ann"] * 5 + ["bo"])
    assert heard_in(noise_source("babble", alone, reader)(alone[0], 2 * RATE_HZ)) == {1, 2, 3, 4, 5}


def test_rows_without_sound_are_no_voices(tmp_path: Path, reader: AudioReader) -> None:
    data = rows(tmp_path, [None] * 6)
    (tmp_path / "1.wav").write_bytes(b"nothing to hear")
    soundfile.write(tmp_path / "2.wav", np.zeros(2 * RATE_HZ, dtype=np.float32), RATE_HZ)
    assert heard_in(noise_source("babble", data, reader)(data[0], 2 * RATE_HZ)) == {3, 4, 5}
    with pytest.raises(DataError, match="at least 2 other rows"):
        noise_source("babble", data[:4], reader)


def test_folders_without_noise_say_so(tmp_path: Path, reader: AudioReader) -> None:
    (row,) = rows(tmp_path, [None])
    with pytest.raises(DataError, match="there is no folder") as raised:
        noise_source(str(tmp_path / "wite"), [row], reader)
    assert (raised.value.where, raised.value.fix) == (
        "--noise-from",
        "white, babble, or a folder of recordings of noise",
    )
    silent = tmp_path / "silent"
    silent.mkdir()
    soundfile.write(silent / "a.wav", np.zeros(RATE_HZ, dtype=np.float32), RATE_HZ)
    with pytest.raises(DataError, match="silent, 20 times in a row"):
        noise_source(str(silent), [row], reader)(row, RATE_HZ)


def test_a_telephone_and_what_has_no_ratio(reader: AudioReader) -> None:
    row = Segment("a", Path("a.wav"), 0.0, 2.0, "a text", "sv")
    telephone, noisy = (
        change_of(TELEPHONE),
        change_of(Condition(0.0, "white"), noise_source("white", [], reader)),
    )
    assert telephone is not None
    assert noisy is not None
    assert change_of(CLEAN) is None
    np.testing.assert_allclose(
        telephone(tone(100) + tone(1000) + tone(6000), row)[RATE_HZ:-4000], tone(1000)[RATE_HZ:-4000], atol=1e-3
    )
    assert not noisy(np.zeros(RATE_HZ, dtype=np.float32), row).any()
    assert noisy(tone(100)[:0], row).shape == (0,)
    loud = noisy(15 * tone(1000), row)
    assert np.abs(loud).max() == pytest.approx(1.0)  # made quieter, not cut
    assert np.count_nonzero(np.abs(loud) > 0.999) < 5


def test_only_what_is_heard_of_a_row_is_changed(tmp_path: Path, reader: AudioReader) -> None:
    (row,) = rows(tmp_path, [None])
    seen = []

    def louder(samples: np.ndarray, segment: Segment) -> np.ndarray:
        seen.append((samples.shape, segment.id))
        return samples + np.float32(0.25)

    changed = clip(row, reader, "full", louder)
    assert seen == [((32_000,), "0")]
    np.testing.assert_array_equal(changed[:32_000], clip(row, reader)[:32_000] + np.float32(0.25))
    assert len(changed) == 480_000
    assert not changed[32_000:].any()


def test_noise_makes_errors_of_a_real_model(tiny_en: ModelFolder, english_read: Path, reader: AudioReader) -> None:
    engine = live_engine("ctranslate2", load_live(tiny_en))
    segments = read_data(str(english_read), tiny_en.vocabulary, tiny_en.generation, reader, language="en").segments
    noisy, done = Condition(0.0, "white"), []
    found = evaluate_conditions(
        engine, segments[2:], Source(reader), (CLEAN, noisy), progress=lambda rows, total: done.append((rows, total))
    )
    clean, white = (each.evaluation.scores.wer for each in found)
    assert clean < 20
    assert white > 40
    assert done == [(1, 2), (2, 2)]
    row = found[1].as_json()
    assert (row["condition"], row["noise"], row["snr_db"]) == ("white 0 dB", "white", 0.0)
    assert (row["wer"], row["rows"]) == (white, 1)


# --- what is shown ---------------------------------------------------------------------------------------------


def evaluation(wrong: int, language: str = "sv") -> Evaluation:
    """Of ten words a row, of which so many are wrong."""
    found = []
    for row in range(8):
        text = "你" * 10 if language == "zh" else " ".join(["rätt"] * 10)
        written = (
            "错" * wrong + text[wrong:] if language == "zh" else " ".join(["fel"] * wrong + ["rätt"] * (10 - wrong))
        )
        found.append(Hypothesis(Segment(f"{row}", Path("a.wav"), 0.0, 3.0, text, language), written))
    return evaluation_of(found, [], 1.0, "ctranslate2", "full")


def heard(wrong: Sequence[int], language: str = "sv", noise: str = "white") -> tuple[Conditioned, ...]:
    found = conditions_of((20.0, 10.0, 0.0), noise)
    return tuple(Conditioned(each, evaluation(n, language)) for each, n in zip(found, wrong, strict=True))


def test_a_curve_a_model_and_the_table_behind_it() -> None:
    section = noise_section({"base <b>": heard((2, 3, 5, 9, 4)), "tuned": heard((1, 1, 2, 5, 1))})
    tree = ElementTree.fromstring(section)  # well formed
    assert "<b>" not in section
    curves = list(tree.iter("polyline"))
    assert len(curves) == 2
    assert all(len((each.get("points") or "").split()) == 3 for each in curves)  # clean and telephone have no ratio
    assert "WER in white noise" in section
    assert "base &lt;b&gt;: 90 at 0, 50 at 10, 30 at 20" in section
    table = [[cell.text for cell in row] for row in tree.iter("tr")]
    assert [row[:3] for row in table[1:3]] == [["clean", "base <b>", "20.0"], ["clean", "tuned", "10.0"]]
    assert table[-1] == ["telephone", "tuned", "10.0", "10.0 to 10.0", *table[-1][4:6], "+0.0"]
    assert [row[-1] for row in table[1:]] == [
        "–",
        "–",
        "+10.0",
        "+0.0",
        "+30.0",
        "+10.0",
        "+70.0",
        "+40.0",
        "+20.0",
        "+0.0",
    ]


def test_languages_without_spaces_lead_with_characters() -> None:
    section = noise_section({"base": heard((2, 3, 5, 9, 4), "zh")})
    assert "CER in white noise" in section
    assert "base: 90 at 0, 50 at 10, 30 at 20" in section


def test_several_kinds_of_noise_are_curves_of_their_own() -> None:
    both = heard((2, 3, 5, 9, 4)) + heard((2, 4, 6, 8, 4), noise="babble")[1:4]
    section = noise_section({"base": both})
    assert section.count("<polyline") == 2
    assert "base, white" in section
    assert "base, babble" in section


def test_without_ratios_there_is_the_table_alone() -> None:
    only = [Conditioned(TELEPHONE, evaluation(3))]
    assert [row[0] for row in rows_of({"base": only})] == ["telephone"]
    assert rows_of({"base": only})[0][-1] == "–"
    assert "<svg" not in noise_section({"base": only})
    assert noise_section({}) == ""
