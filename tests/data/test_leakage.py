"""Leakage: what two splits must not share, what they may, and what each policy does about it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from whispertune.data.leakage import check_apart, text_keys
from whispertune.data.segments import Embedded, Held, Joined, Part, Segment, name_of
from whispertune.data.table import Files, SegmentTable, strings
from whispertune.errors import DataError


def row(name: str, text: str = "", start_s: float = 0.0, end_s: float = 2.0, **more: Any) -> Segment:
    others: dict[str, Any] = {"recording": Path(f"/clips/{name}.wav"), "language": "en"} | more
    text = text or f"what the clip called {name} says"
    return Segment(id=f"rows.csv:{name}", start_s=start_s, end_s=end_s, text=text, **others)


def shared(train: list[Segment], dev: list[Segment]) -> dict[str, str]:
    """Why rows of train are in dev too, by the name of the row."""
    splits = {"train": SegmentTable.of(train), "dev": SegmentTable.of(dev), "test": SegmentTable.of(())}
    apart = check_apart(splits, "drop")
    assert all(problem.kind == "also in dev" for problem in apart.problems["train"])
    assert len(apart.splits["train"]) == apart.kept["train"].sum() == len(train) - len(apart.problems["train"])
    assert len(apart.splits["dev"]) == len(dev)
    return {one.where.removeprefix("rows.csv:"): one.detail.split()[2] for one in apart.problems["train"]}


def test_nothing_shared() -> None:
    assert shared([row("a"), row("b")], [row("c"), row("d")]) == {}
    assert shared([], [row("c")]) == {}


def test_the_same_stretch_of_a_recording() -> None:
    talk = Path("/clips/talk.wav")
    train = [row(f"t{n}", start_s=n, end_s=n + 1.0, recording=talk) for n in range(10)]
    dev = [row("d1", start_s=3.0, end_s=4.0, recording=talk), row("d2", start_s=7.5, end_s=7.9, recording=talk)]
    assert shared(train, dev) == {"t3": "speech", "t7": "speech"}
    touching = [row("d1", start_s=9.96, end_s=12.0, recording=talk)]
    assert shared(train, touching) == {}


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)), max_size=6),
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)), max_size=6),
)
def test_stretches_are_found_as_by_looking_at_every_pair(
    mine: list[tuple[int, int]], theirs: list[tuple[int, int]]
) -> None:
    talk = Path("/clips/talk.wav")
    train, dev = (
        [row(f"{name}{n}", start_s=s, end_s=s + length, recording=talk) for n, (s, length) in enumerate(some)]
        for name, some in (("t", mine), ("d", theirs))
    )
    expected = {
        one.id.removeprefix("rows.csv:"): "speech"
        for one in train
        if any(min(one.end_s, other.end_s) > max(one.start_s, other.start_s) for other in dev)
    }
    assert shared(train, dev) == expected


def test_one_recording_by_several_paths(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    soundfile.write(tmp_path / "real" / "a.wav", np.random.default_rng(0).normal(0, 0.1, 16_000), 16_000)
    soundfile.write(tmp_path / "real" / "b.wav", np.random.default_rng(1).normal(0, 0.1, 16_000), 16_000)
    shutil.copy(tmp_path / "real" / "a.wav", tmp_path / "copy.wav")
    (tmp_path / "called otherwise.wav").symlink_to(tmp_path / "real" / "a.wav")
    dev = [row("d", recording=tmp_path / "real" / "a.wav")]
    train = [
        row("linked", recording=tmp_path / "linked" / "a.wav"),
        row("copy", recording=tmp_path / "copy.wav"),
        row("link", recording=tmp_path / "called otherwise.wav"),
        row("as large", recording=tmp_path / "real" / "b.wav"),
        row("later in it", start_s=2.0, end_s=3.0, recording=tmp_path / "copy.wav"),
        row("missing", recording=tmp_path / "no.wav"),
    ]
    assert shared(train, dev) == dict.fromkeys(("linked", "copy", "link"), "speech")


@pytest.mark.parametrize("listened", [False, True])
def test_a_copy_that_is_cut_otherwise(listened: bool, tmp_path: Path) -> None:
    """Hashes of what was heard tell only rows that begin and end at the same samples."""
    soundfile.write(tmp_path / "episode 1.wav", np.random.default_rng(0).normal(0, 0.1, 160_000), 16_000)
    shutil.copy(tmp_path / "episode 1.wav", tmp_path / "ep1.wav")
    train = [row("t", start_s=0.0, end_s=4.0, recording=tmp_path / "episode 1.wav")]
    dev = [row("d", start_s=0.3, end_s=6.5, recording=tmp_path / "ep1.wav")]
    splits = {"train": SegmentTable.of(train), "dev": SegmentTable.of(dev)}
    hashes = {"train": np.array([b"11"]), "dev": np.array([b"22"])} if listened else None
    with pytest.raises(DataError, match="the same speech is in train and in dev"):
        check_apart(splits, "error", hashes)


@pytest.mark.parametrize("listened", [False, True])
def test_too_many_rows_to_open_their_files(listened: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whispertune.data.leakage.MOST_FILES", 1)
    splits = {"train": SegmentTable.of([row("a")]), "dev": SegmentTable.of([row("b")])}
    hashes = {"train": np.array([b"11"]), "dev": np.array([b"22"])} if listened else None
    notes = check_apart(splits, "error", hashes).notes
    assert [note.partition(":")[0] for note in notes] == (
        [] if listened else ["whether train and dev hold copies of the same audio was not looked at"]
    )


class _Counted(str):
    """A name that counts how often it is hashed."""

    hashed = 0

    def __hash__(self) -> int:
        type(self).hashed += 1
        return super().__hash__()


def test_a_long_chain_is_looked_up_once() -> None:
    """Not once a row: each time all its parts are hashed."""
    parts = tuple(Part(Embedded(Path("x.parquet"), n, "audio", f"{n}.flac"), float(n), n + 1.0) for n in range(50))
    chains = [Joined(_Counted("talk.wav"), parts), Joined(_Counted("talk.wav"), parts)]
    train, dev = (
        [row(f"{name}{n}", start_s=n, end_s=n + 1.0, recording=chain) for n in range(50)]
        for name, chain in zip(("t", "d"), chains, strict=True)
    )
    _Counted.hashed = 0
    assert len(shared(train, dev)) == 50
    assert _Counted.hashed < 25


def test_recordings_inside_of_other_files() -> None:
    kept, other = (Embedded(Path("a.parquet"), number, "audio", f"{number}.flac") for number in (1, 2))
    train = [row("a", recording=kept), row("b", recording=Held("x", b"1"))]
    assert shared(train, [row("d", recording=kept)]) == {"a": "speech"}
    assert shared(train, [row("d", recording=other), row("e", recording=Held("y", b"1"))]) == {}


@pytest.mark.parametrize(
    ("mine", "theirs", "language", "is_leak"),
    [
        ("The cat sat on the mat.", "the CAT sat — on the mat", "en", True),
        ("The cat sat on the mat.", "The cat sat on a mat.", "en", False),
        ("Thank you.", "thank you", "en", False),
        ("I do not know", "I do not know", "en", False),
        ("今天天气真的很好", "今天天气真的很好。", "zh", True),
        ("谢谢大家", "谢谢大家", "zh", False),
        ("कि यह तो बहुत अच्छा है", "का यह ता बहुत अच्छा है", "hi", False),  # vowels are marks
        ("Die Straße nach München", "DIE STRASSE NACH MÜNCHEN", "de", True),
        ("Οδυσσεύς, μακρυά από εδώ", "ΟΔΥΣΣΕΎΣ, ΜΑΚΡΥΆ ΑΠΌ ΕΔΏ", "el", True),
        ("Ich hätte ﬁnden können", "Ich hätte finden können", "de", True),
        ("１２３４５６７８９０ ＡＢＣＤＥ", "1234567890 abcde", "en", True),
        ("I wouldn´t know about it", "I wouldn't know about it™", "en", True),  # signs stay none
        ("!!!", "???", "en", False),
    ],
)
def test_the_same_text(mine: str, theirs: str, language: str, is_leak: bool) -> None:
    found = shared([row("a", mine, language=language), row("b")], [row("d", theirs, language=language)])
    assert found == ({"a": "text"} if is_leak else {})


def test_short_texts_are_told_of() -> None:
    splits = {"train": SegmentTable.of([row("a", "Yes."), row("b")]), "dev": SegmentTable.of([row("c", "yes")])}
    assert check_apart(splits, "error").notes == (
        "1 row of train with a short text that dev has too, e.g. 'Yes.': no leak",
    )


def test_the_same_audio_by_its_hash() -> None:
    train, dev = SegmentTable.of([row("a"), row("b"), row("c")]), SegmentTable.of([row("d"), row("e")])
    hashes = {"train": np.array([b"11", b"22", b""]), "dev": np.array([b"", b"22"])}
    apart = check_apart({"train": train, "dev": dev}, "drop", hashes)
    assert apart.notes == ()
    assert [(one.where, one.detail) for one in apart.problems["train"]] == [
        ("rows.csv:b", "the same audio as rows.csv:e of dev; clean.leakage is drop")
    ]
    assert apart.kept["train"].tolist() == [True, False, True]


def test_an_error_names_both_sides_and_the_key() -> None:
    train = [row(f"t{n}", "The cat sat on the mat.") for n in range(5)]
    with pytest.raises(DataError) as caught:
        check_apart({"train": SegmentTable.of(train), "dev": SegmentTable.of([row("d", train[0].text)])}, "error")
    said = str(caught.value)
    assert said.startswith(
        "clean.leakage: the same text is in train and in dev; 5 of the rows of train are in dev too: 5 by the same text"
    )
    assert "rows.csv:t0 of train, rows.csv:d of dev: the same text, 'The cat sat on the mat.'" in said
    assert said.count("rows.csv:t") == 3
    assert '"drop"' in said


def test_dev_and_test_are_kept_apart_too() -> None:
    splits = {name: SegmentTable.of([row("a"), row(name)]) for name in ("dev", "test")}
    with pytest.raises(DataError, match="in dev and in test"):
        check_apart(splits, "error")
    apart = check_apart(splits, "drop")
    assert [one.kind for one in apart.problems["dev"]] == ["also in test"]
    assert [len(apart.splits[name]) for name in ("dev", "test")] == [1, 2]


def test_allowed_leaks_are_told_of() -> None:
    splits = {name: SegmentTable.of([row("a")]) for name in ("train", "dev")}
    apart = check_apart(splits, "allow")
    assert len(apart.splits["train"]) == 1
    assert apart.problems == {"train": (), "dev": ()}
    assert apart.notes == (
        "1 of the rows of train are in dev too: 1 by the same speech (clean.leakage is allow): "
        "figures of dev say too much",
    )


def test_speakers_are_only_told_of() -> None:
    train = [row("a", speaker="Ann"), row("b", speaker="Bo"), row("c")]
    dev = [row("d", speaker="Bo"), row("e", speaker="Cy"), row("f")]
    splits = {"train": SegmentTable.of(train), "dev": SegmentTable.of(dev)}
    assert check_apart(splits, "error").notes == (
        "1 of 2 speakers of dev speak in train too (e.g. Bo): "
        "figures of dev say less about speakers who were never heard",
    )
    unknown = {name: SegmentTable.of([replace(one, speaker=None) for one in table]) for name, table in splits.items()}
    assert check_apart(unknown, "error").notes == ()


def files(*names: str) -> SegmentTable:
    table = SegmentTable.of([row(name) for name in names])
    return replace(table, recordings=Files(strings([f"/clips/{name}.wav" for name in names])))


def test_names_of_recordings_however_they_are_kept() -> None:
    table = SegmentTable.join([files("a", "b", "c").take([2, 0]), SegmentTable.of([row("d")]), files("e", "f")])
    for rows in ([0, 1, 2, 3, 4], [1, 3], [4, 2, 0]):
        some = table.take(rows)
        assert some.recording_names().to_pylist() == [
            name_of(each) for each in map(some.recordings.__getitem__, range(len(rows)))
        ]


def test_a_key_keeps_letters_marks_and_digits() -> None:
    assert text_keys(strings(["Ça va, 5 fois?", "नमस्ते!"])).to_pylist() == ["çava5fois", "नमस्ते"]


def test_mboshi_is_apart(mboshi: Path) -> None:
    splits = {}
    for name in ("train", "dev"):
        rows = [json.loads(line) for line in (mboshi / name / "metadata.jsonl").read_text("utf-8").splitlines()]
        splits[name] = SegmentTable.of(
            Segment(f"{name}:{n}", mboshi / name / one["file_name"], 0.0, one["duration_s"], one["text"], "ln")
            for n, one in enumerate(rows)
        )
    apart = check_apart(splits, "error")
    assert {name: len(table) for name, table in apart.splits.items()} == {"train": 1500, "dev": 250}
