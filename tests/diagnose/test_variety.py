"""Family 4: few speakers, leakage, and differences that the rows do not carry."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile

from whispertune.data.segments import Segment
from whispertune.diagnose.findings.variety import (
    Facts,
    best_by_luck,
    dev_too_small,
    few_speakers,
    known_speakers,
    leakage,
    variety,
)
from whispertune.diagnose.history import Evaluated, History
from whispertune.diagnose.predictions import Predictions
from whispertune.diagnose.rows import Rows, facts_of, read_rows
from whispertune.recipe import Clean, Data, Recipe, SourceTable
from whispertune.recipe_file import parse_recipe
from whispertune.score.wer import UtteranceScore, score

MANY = frozenset("abcdefgh")
WORDS = ("en", "två", "tre", "fyra", "fem", "sex", "sju", "åtta", "nio", "tio")


def heard(wrong: int, rows: int) -> tuple[UtteranceScore, ...]:
    """Rows of ten words, the first `wrong` of them with one error."""
    said = " ".join(WORDS)
    texts = [" ".join(["x", *WORDS[1:]]) if row < wrong else said for row in range(rows)]
    return tuple(score([str(row) for row in range(rows)], [said] * rows, texts, "sv")[1])


def segment(text: str, speaker: str | None = None, name: str = "1") -> Segment:
    return Segment(name, Path("a.wav"), 0.0, 2.0, text, "sv", speaker=speaker)


def test_few_voices_in_train() -> None:
    found = few_speakers(Facts(train_rows=800, train_speakers=frozenset("abc")))
    assert found is not None
    assert found.seen[0].value == 3
    assert few_speakers(Facts(train_speakers=MANY)) is None
    assert few_speakers(Facts()) is None  # nobody knows


def test_a_dev_of_known_voices() -> None:
    assert known_speakers(Facts(train_speakers=MANY, decoded_speakers=frozenset("ab"))) is not None
    assert known_speakers(Facts(train_speakers=MANY, decoded_speakers=frozenset("az"))) is None
    assert known_speakers(Facts(train_speakers=MANY)) is None


def test_texts_in_both_splits_are_a_leak_unless_they_are_dropped() -> None:
    facts = Facts(decoded_rows=100, shared_texts=10)
    found = leakage(facts, None)
    assert found is not None
    assert (found.severity, found.sure) == ("high", "certain")
    dropping = Recipe(model="m", data=Data(), clean=Clean(leakage="drop"))
    assert leakage(facts, dropping) is None
    assert leakage(replace(facts, shared_texts=1), None) is None
    assert leakage(Facts(), None) is None


def test_facts_are_counted_from_rows_and_short_texts_are_everybodys() -> None:
    train = (segment("det var en gång en katt", "a"), segment("ja tack", "b"))
    dev = (segment("Det var en gång en katt!", "c"), segment("ja tack", "c"))
    facts = facts_of(Rows(train, dev))
    assert facts == Facts(2, 2, frozenset("ab"), frozenset("c"), 1)
    assert facts_of(Rows((segment("a", "x"), segment("b")), ())).train_speakers is None  # not all are known
    assert facts_of(Rows()) == Facts()


def test_rows_are_read_from_the_sources_again(tmp_path: Path) -> None:
    manifest = tmp_path / "train.jsonl"
    soundfile.write(tmp_path / "a.wav", np.zeros(16_000), 16_000)
    rows = [{"audio": "a.wav", "text": f"rad {n}", "speaker": "ann", "start": 0.0, "end": 1.0} for n in range(3)]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = SourceTable(source=str(manifest))
    recipe = Recipe(model="m", language="sv", data=Data(train=(table,), dev=(table, table)))
    found = read_rows(recipe)
    assert [each.speaker for each in found.train] == ["ann"] * 3
    assert len(found.durations_s) == 6  # of two sources, by the ids that a run gives them
    assert set(found.speakers.values()) == {"ann"}
    gone = recipe.model_copy(update={"data": Data(train=(SourceTable(source=str(tmp_path / "gone.jsonl")),))})
    assert read_rows(gone) == Rows()


def manifest_of(path: Path, speaker: str, text: str) -> SourceTable:
    """Ten rows of a speaker, all with this text and a number."""
    soundfile.write(path.parent / "a.wav", np.zeros(16_000 * 10), 16_000)
    rows = [{"audio": "a.wav", "text": f"{text} {n}", "speaker": speaker, "start": n, "end": n + 1} for n in range(10)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return SourceTable(source=str(path))


def test_what_was_read_is_named_by_its_split(tmp_path: Path) -> None:
    train = manifest_of(tmp_path / "train.jsonl", "ann", "det var en gång en katt")
    dev = manifest_of(tmp_path / "dev.jsonl", "bob", "något helt annat står här nu")
    leaked = manifest_of(tmp_path / "test.jsonl", "ann", "det var en gång en katt")
    few = Predictions(base=heard(3, 20), tuned=heard(1, 20), language="sv")
    for split, data in (
        ("test", Data(train=(train,), dev=(dev,), test=(leaked,))),
        ("dev", Data(train=(train,), dev=(leaked,))),
    ):
        recipe = Recipe(model="m", language="sv", data=data, clean=Clean(leakage="allow"))
        rows = read_rows(recipe)
        found = {each.key: each for each in variety(None, few, facts_of(rows), recipe)}
        assert found["leakage"].seen[0].told == f"rows of {split} whose text is in train: 10"
        assert found["leakage"].means.startswith(f"{split} asks for texts")
        assert found["known-speakers"].seen[0].told == f"speakers in {split}: 1"
        assert found["known-speakers"].change[0].value.startswith("other rows" if split == "test" else "rows of")
        assert found["dev-too-small"].change[0].key == f"data.{split}"
        assert found["dev-too-small"].seen[0].name == f"rows of {split}"
    clean = Recipe(model="m", language="sv", data=Data(train=(train,), dev=(leaked,), test=(dev,)))
    assert {each.key for each in variety(None, Predictions(), facts_of(read_rows(clean)), clean)} == {"few-speakers"}


def test_a_difference_that_may_be_luck() -> None:
    found = dev_too_small(Predictions(base=heard(3, 20), tuned=heard(1, 20), language="sv"))
    assert found is not None
    assert found.change[0].key == "data.dev"
    assert dev_too_small(Predictions(base=heard(60, 100), tuned=heard(5, 100), language="sv")) is None  # it is shown
    assert dev_too_small(Predictions(base=heard(1, 20), tuned=heard(3, 20), language="sv")) is None  # nobody claims it
    assert dev_too_small(Predictions(tuned=heard(1, 20))) is None
    of_characters = dev_too_small(Predictions(base=heard(3, 20), tuned=heard(1, 20), language="sv", leads="cer"))
    assert of_characters is not None
    assert (found.seen[1].value, of_characters.seen[1].value) == (-1.0, -0.5)  # of 200 words, of 800 characters


def test_evaluations_that_lie_within_their_interval() -> None:
    def history(*rates: float, half: float) -> History:
        return History(
            (),
            tuple(Evaluated(n, wer=rate, interval=(rate - half, rate + half), rows=50) for n, rate in enumerate(rates)),
        )

    found = best_by_luck(history(40.0, 38.5, 39.0, half=5.0), None)
    assert found is not None
    assert (found.change[0].key, found.change[0].value) == ("evaluation.subset", "200")
    data = {"train": [{"source": "a"}], "dev": [{"source": "b"}]}
    wider = parse_recipe({"model": "m", "language": "sv", "data": data, "evaluation": {"subset": 80}})
    found = best_by_luck(history(40.0, 38.5, 39.0, half=5.0), wider)
    assert found is not None
    assert found.change[0].key == "data.dev"  # all 50 of its rows were decoded already
    assert best_by_luck(history(60.0, 45.0, 39.0, half=5.0), None) is None
    assert best_by_luck(History((), (Evaluated(1, wer=4.0), Evaluated(2, wer=4.1))), None) is None


def test_nothing_known_is_nothing_said() -> None:
    assert variety(None, Predictions(), Facts()) == []
