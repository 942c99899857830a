"""Leakage as the run itself sees it: every two splits, by its own keys, where the recipe allows it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from whispertune.data.segments import Segment
from whispertune.diagnose.findings.variety import DevOverlap, Facts, leakage
from whispertune.diagnose.rows import Rows, facts_of, read_rows
from whispertune.recipe import Clean, Data, Recipe, SourceTable

LONG = "den gamla bron är stängd i dag och i morgon"
OTHER = "helt andra ord som ingen har sagt förr"
ALLOWED = Recipe(model="m", data=Data(), clean=Clean(leakage="allow"))


def rows(*texts: str, language: str = "sv") -> tuple[Segment, ...]:
    return tuple(Segment(str(n), Path("a.wav"), 0.0, 2.0, text, language) for n, text in enumerate(texts))


@pytest.mark.parametrize(
    ("language", "first", "second", "shared"),
    [
        ("zh", "我们今天去学校上课吧", "我们今天去学校上课吧", 1),  # ten characters are a sentence
        ("sv", "ja tack ja", "ja tack ja", 0),  # and in letters are not
        ("hi", "मेरी बेटी कल स्कूल से घर आई थी", "मेरा बेटा कल स्कूल से घर आई थी", 0),  # vowel signs are letters
        ("sv", LONG, LONG.upper() + "!", 1),
        ("vi", "tôi đang học tiếng việt nam", "to\u0302i đang học tie\u0302\u0301ng vie\u0323\u0302t nam", 1),
    ],
)
def test_texts_are_compared_as_the_run_compares_them(language: str, first: str, second: str, shared: int) -> None:
    facts = facts_of(Rows(rows(first, language=language), rows(second, language=language)))
    assert facts.shared_texts == shared


def test_every_two_splits_are_looked_at() -> None:
    facts = facts_of(Rows(rows(LONG), rows(LONG, OTHER), "test", dev=rows(OTHER, LONG, OTHER)))
    assert (facts.shared_texts, facts.dev) == (1, DevOverlap(3, in_train=1, of_test=2))
    assert facts_of(Rows((), rows(LONG), "test", dev=rows(LONG))).dev == DevOverlap(1, None, 1)
    assert facts_of(Rows(rows(LONG), rows(LONG))).dev is None


def test_dev_that_was_trained_on_chose_the_checkpoint() -> None:
    facts = Facts(decoded_rows=50, shared_texts=0, split="test", dev=DevOverlap(40, in_train=4, of_test=0))
    found = leakage(facts, ALLOWED)
    assert found is not None
    assert [each.told for each in found.seen] == ["rows of dev whose text is in train: 4", "rows of dev: 40"]
    assert found.severity == "medium"
    assert found.means.startswith("dev chose the checkpoint by texts that were trained on")
    assert found.change[0].why == "takes such rows out of train"


def test_test_that_chose_the_checkpoint_flatters() -> None:
    facts = Facts(decoded_rows=50, split="test", dev=DevOverlap(40, in_train=4, of_test=5))
    found = leakage(facts, ALLOWED)
    assert found is not None
    assert [(each.name, each.value) for each in found.seen] == [
        ("rows of test whose text is in dev", 5),
        ("rows of test", 50),
        ("rows of dev whose text is in train", 4),
        ("rows of dev", 40),
    ]
    assert found.severity == "high"
    assert "rows of test chose the checkpoint too: its figures flatter" in found.means
    assert found.change[0].why == "takes such rows out of dev and train"


@pytest.mark.parametrize("policy", ["error", "drop"])
def test_a_run_that_would_have_seen_it_is_not_contradicted(policy: str) -> None:
    facts = Facts(decoded_rows=50, shared_texts=50, split="test", dev=DevOverlap(40, in_train=40, of_test=50))
    recipe = Recipe.model_validate({"model": "m", "data": {}, "clean": {"leakage": policy}})
    assert leakage(facts, recipe) is None
    assert leakage(facts, ALLOWED) is not None
    assert leakage(facts, None) is not None


def manifest(path: Path, *lengths_and_texts: tuple[float, str]) -> SourceTable:
    soundfile.write(path.parent / "a.wav", np.zeros(16_000 * 10), 16_000)
    lines = [{"audio": "a.wav", "text": text, "start": 0.0, "end": end} for end, text in lengths_and_texts]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return SourceTable(source=str(path))


def test_rows_that_the_run_dropped_or_rewrote_are_read_as_it_read_them(tmp_path: Path) -> None:
    train = manifest(tmp_path / "train.jsonl", (0.02, LONG), (2.0, f"[skratt] {OTHER}"))
    dev, test = manifest(tmp_path / "dev.jsonl", (3.0, OTHER)), manifest(tmp_path / "test.jsonl", (3.0, LONG))
    data = Data(train=(train,), dev=(dev,), test=(test,))
    recipe = Recipe(model="m", language="sv", data=data, clean=Clean(leakage="allow", markup="strip"))
    facts = facts_of(read_rows(recipe))
    assert (facts.train_rows, facts.shared_texts) == (1, 0)  # too short to be trained on
    assert facts.dev == DevOverlap(1, in_train=1, of_test=0)  # the same without the noise in brackets


def test_what_was_decoded_goes_before_what_the_recipe_has(tmp_path: Path) -> None:
    train, dev = manifest(tmp_path / "train.jsonl", (2.0, OTHER)), manifest(tmp_path / "dev.jsonl", (3.0, LONG))
    recipe = Recipe(model="m", language="sv", data=Data(train=(train,), dev=(dev,), test=(train,)))
    assert read_rows(recipe).split == "test"
    fell_back = read_rows(recipe, "dev")
    assert (fell_back.split, [each.text for each in fell_back.decoded], fell_back.dev) == ("dev", [LONG], ())
