"""The demo's sentences cover its terms, and its recordings hold what their captions say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from demo.__main__ import main
from demo.sentences import DEV, SPOKEN, TRAIN, spoken, terms_in
from demo.speech import delivery, synthesise
from whispertune.errors import InputError, WhispertuneError
from whispertune.score.terms import load_terms

RECORDINGS = {"train": TRAIN, "dev": DEV}
CUE = re.compile(r"^([\d:.]+) --> ([\d:.]+)[^\n]*\n(.+)$", re.MULTILINE)


def count_terms(sentences: Sequence[str]) -> Counter[str]:
    return Counter(term for sentence in sentences for term in terms_in(sentence))


def read_cues(path: Path) -> list[tuple[float, float, str]]:
    """(start_s, end_s, text) of a WebVTT file, read without the writer's own code."""

    def seconds(stamp: str) -> float:
        return sum(float(part) * 60.0**power for power, part in enumerate(reversed(stamp.split(":"))))

    return [(seconds(a), seconds(b), text) for a, b, text in CUE.findall(path.read_text(encoding="utf-8"))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("py_nanotts")
    folder = tmp_path_factory.mktemp("speech") / "data"
    synthesise(folder)
    return folder


def peaks(folder: Path, name: str) -> tuple[np.ndarray, float]:
    """The largest amplitude of each millisecond, (ms,), and the length in s."""
    samples, rate = soundfile.read(folder / f"{name}.mp3", dtype="float32")
    assert rate == 16_000
    whole = samples[: len(samples) // 16 * 16].reshape(-1, 16)
    return np.abs(whole).max(axis=1), len(samples) / rate


def test_every_term_is_taught_and_tested() -> None:
    train, dev = count_terms(TRAIN), count_terms(DEV)
    assert len(SPOKEN) >= 30
    assert all(train[term] >= 3 for term in SPOKEN)
    assert all(dev[term] >= 1 for term in SPOKEN)


def test_no_sentence_stands_twice() -> None:
    assert len({sentence.casefold() for sentence in TRAIN + DEV}) == len(TRAIN) + len(DEV)


def test_dev_puts_the_terms_into_other_company() -> None:
    pairs = [{frozenset(terms_in(sentence)) for sentence in sentences} for sentences in (TRAIN, DEV)]
    assert pairs[0].isdisjoint(pairs[1])


@pytest.mark.parametrize("sentence", TRAIN + DEV)
def test_the_synthesiser_gets_no_written_term_and_no_digit(sentence: str) -> None:
    assert terms_in(sentence)
    assert not terms_in(spoken(sentence))
    assert re.fullmatch(r"[A-Za-z ,']+[.?]", spoken(sentence))


def test_terms_are_whole_words() -> None:
    assert terms_in("The Parquets of JAX, and MySQL.") == ("JAX", "MySQL")
    assert spoken("We tuned it with QLoRA.") == "We tuned it with queue laura."


def test_delivery_varies_within_bounds() -> None:
    ways = [delivery(sentence) for sentence in TRAIN]
    assert len(set(ways)) == len(TRAIN)
    assert all(0.9 <= way.speed <= 1.1 and 0.9 <= way.pitch <= 1.1 for way in ways)
    assert all(300 <= way.pause_ms <= 800 for way in ways)


@pytest.mark.parametrize("name", RECORDINGS)
def test_captions_hold_the_sentences_in_order(folder: Path, name: str) -> None:
    cues = read_cues(folder / f"{name}.vtt")
    assert tuple(text for _, _, text in cues) == RECORDINGS[name]
    gaps_s = [later[0] - earlier[1] for earlier, later in pairwise(cues)]
    assert all(0.299 <= gap_s <= 0.801 for gap_s in gaps_s)


@pytest.mark.parametrize("name", RECORDINGS)
def test_cues_fit_the_decoded_audio(folder: Path, name: str) -> None:
    peak, length_s = peaks(folder, name)
    quiet = np.ones(len(peak), bool)
    lead_ms, trail_ms = [], []
    for start_s, end_s, text in read_cues(folder / f"{name}.vtt"):
        assert end_s <= length_s
        start_ms, end_ms = round(1000 * start_s), round(1000 * end_s)
        quiet[start_ms - 20 : end_ms + 20] = False  # coding smears
        inside = peak[start_ms:end_ms]
        assert np.mean(inside > 0.01) > 0.5, text
        loud = np.flatnonzero(inside > 0.01 * inside.max())
        lead_ms.append(loud[0])
        trail_ms.append(len(inside) - 1 - loud[-1])
    assert peak[quiet].max() < 0.01
    # 30 ms are kept around what is loud; coding may take a soft consonant, but a delay would shift all.
    assert abs(np.median(lead_ms) - 30) <= 20
    assert abs(np.median(trail_ms) - 30) <= 20
    assert max(lead_ms + trail_ms) <= 100


def test_speech_is_as_long_as_promised(folder: Path) -> None:
    speech_s = {
        name: sum(end_s - start_s for start_s, end_s, _ in read_cues(folder / f"{name}.vtt")) for name in RECORDINGS
    }
    assert 200 < speech_s["train"] < 252  # 4.2 minutes
    assert 80 < speech_s["dev"] < 108


def test_the_list_of_terms_reads_back(folder: Path) -> None:
    assert load_terms(folder / "terms.txt") == tuple(SPOKEN)


def test_the_same_files_come_out_again(folder: Path, tmp_path: Path) -> None:
    synthesise(tmp_path)
    names = {path.name for path in folder.iterdir()}
    assert names == {"train.mp3", "train.vtt", "dev.mp3", "dev.vtt", "terms.txt"}
    assert all((tmp_path / name).read_bytes() == (folder / name).read_bytes() for name in names)


@pytest.fixture
def voiceless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A synthesiser that fails."""
    (tmp_path / "py_nanotts.py").write_text("raise ImportError('no voices here')\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.usefixtures("voiceless")
def test_a_demo_that_stopped_in_its_first_seconds_runs_again(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(WhispertuneError, match="no voices here"):
            main(tmp_path / "demo-run")


def test_a_folder_that_is_not_the_demos_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "terms.txt").write_text("mine")
    with pytest.raises(InputError, match=r"is not the demo's[\s\S]*python -m demo FOLDER"):
        main(tmp_path)
    assert (tmp_path / "run").is_dir()
    assert (tmp_path / "data" / "terms.txt").read_text() == "mine"


@pytest.mark.parametrize(("argument", "code"), [("--help", 0), ("-x", 2)])
def test_options_make_no_folder(argument: str, code: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "demo", argument],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "python -m demo [folder]" in done.stdout) == (code, True)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("voiceless")
def test_a_missing_synthesiser_is_named(tmp_path: Path) -> None:
    with pytest.raises(WhispertuneError, match="no voices here") as caught:
        synthesise(tmp_path / "data")
    assert "whispertune[demo]" in str(caught.value)
