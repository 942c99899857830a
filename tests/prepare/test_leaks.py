"""Audio that splits of a dataset share: found when all rows were listened to, and what is done about it then."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.prepare.conftest import RATE_HZ, clips, hashes, recipe_of
from whispertune.errors import DataError, Interrupted
from whispertune.prepare import finish as finish_module
from whispertune.prepare.engines import ENGINES, Tell
from whispertune.prepare.prepared import Prepared
from whispertune.prepare.run import prepare_dataset
from whispertune.recipe import Recipe

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def leaking(tmp_path: Path) -> Path:
    """Four clips of train are in dev, in other files with other texts: only the audio tells."""
    clips(tmp_path / "train", 8, 1.5, seed=60)
    clips(tmp_path / "dev", 6, 1.5, seed=90, name="other")
    for number in range(4):
        _copy(tmp_path / "train" / f"clip{number + 2}.wav", tmp_path / "dev" / f"other{number}.wav")
    return tmp_path


def _copy(source: Path, target: Path) -> None:
    samples, _ = soundfile.read(source, dtype="int16")
    soundfile.write(target, np.append(samples, np.zeros(100, np.int16)), RATE_HZ)


def _recipe(data: Path, policy: str) -> Recipe:
    return recipe_of(data / "train", data / "dev", clean={"leakage": policy})


def _dropped(out: Path) -> list[tuple[str, str, str]]:
    rows = map(json.loads, (out / "dropped.jsonl").read_text(encoding="utf-8").splitlines())
    return [(row["where"], row["kind"], row["detail"]) for row in rows]


def _nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(work: Path, shards: Sequence[int], processes: int, tell: Tell) -> None:
        pytest.fail("a shard is written again")

    monkeypatch.setitem(ENGINES, "local", run)


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The last step is stopped when shards have lost their rows, until this is undone."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(finish_module, "_told", stop)
        yield patched


def test_an_error_names_the_rows_of_both_splits(leaking: Path) -> None:
    out = leaking / "out"
    with pytest.raises(DataError) as caught:
        prepare_dataset(_recipe(leaking, "error"), out)
    said = str(caught.value)
    assert said.startswith("clean.leakage: the audio of 4 rows of train is in dev too\n")
    pairs = [f"metadata.jsonl:{n + 3} of train: the same audio as metadata.jsonl:{n + 1} of dev" for n in range(4)]
    assert [pair in said for pair in pairs] == [True, True, True, False]
    assert str(out / "dropped.jsonl") in said
    assert not (out / "prepare.json").exists()
    assert _dropped(out) == [
        (f"metadata.jsonl:{n + 3}", "also in dev", f"the same audio as metadata.jsonl:{n + 1} of dev") for n in range(4)
    ]


def test_all_pairs_of_splits_are_written_down(leaking: Path) -> None:
    clips(leaking / "test", 2, 1.5, seed=120, name="third")
    _copy(leaking / "dev" / "other5.wav", leaking / "test" / "third1.wav")
    tables = {"test": [{"source": str(leaking / "test")}]}
    with pytest.raises(DataError, match="the audio of 4 rows of train is in dev too"):
        prepare_dataset(recipe_of(leaking / "train", leaking / "dev", data=tables), leaking / "out")
    assert [kind for _, kind, _ in _dropped(leaking / "out")] == ["also in dev"] * 4 + ["also in test"]
    assert _dropped(leaking / "out")[-1][2] == "the same audio as metadata.jsonl:2 of test"


@pytest.mark.parametrize(("policy", "rows"), [("drop", 4), ("allow", 8)])
def test_behind_an_error_another_policy_goes_on(
    policy: str, rows: int, leaking: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if it had been asked for at once, and without listening again."""
    at_once = prepare_dataset(_recipe(leaking, policy), leaking / "at once")
    with pytest.raises(DataError, match="is in dev too"):
        prepare_dataset(_recipe(leaking, "error"), leaking / "out")
    _nobody_listens(monkeypatch)
    made = prepare_dataset(_recipe(leaking, policy), leaking / "out")
    assert made.splits[0].rows == rows
    assert made.splits[0].dropped == ({"also in dev": 4} if policy == "drop" else {})
    assert made.splits == at_once.splits
    assert hashes(leaking / "out") == hashes(leaking / "at once")
    for name in ("dropped.jsonl", "prepare.json"):
        assert (leaking / "out" / name).read_bytes() == (leaking / "at once" / name).read_bytes()
    assert not (leaking / "out" / ".work").exists()
    assert prepare_dataset(_recipe(leaking, policy), leaking / "out").splits == made.splits


@pytest.mark.parametrize(("before", "now"), [("allow", "drop"), ("drop", "allow"), ("allow", "error")])
def test_what_is_finished_keeps_its_policy(before: str, now: str, leaking: Path) -> None:
    made = prepare_dataset(_recipe(leaking, before), leaking / "out")
    with pytest.raises(DataError, match=f'another recipe.*clean.leakage was "{before}", is "{now}"'):
        prepare_dataset(_recipe(leaking, now), leaking / "out")
    assert Prepared.load(leaking / "out").splits == made.splits


@pytest.mark.parametrize(("before", "now"), [("allow", "drop"), ("drop", "allow"), ("drop", "error")])
def test_stopped_when_rows_are_gone_it_keeps_its_policy(
    before: str, now: str, leaking: Path, stopping: pytest.MonkeyPatch
) -> None:
    """Else a shard that lost rows would stand under a policy that keeps them."""
    with pytest.raises(Interrupted):
        prepare_dataset(_recipe(leaking, before), leaking / "out")
    stopping.undo()
    with pytest.raises(DataError, match=f'clean.leakage was "{before}", is "{now}"'):
        prepare_dataset(_recipe(leaking, now), leaking / "out")
    assert not (leaking / "out" / "prepare.json").exists()
    made = prepare_dataset(_recipe(leaking, before), leaking / "out")
    assert made.splits[0].rows == (4 if before == "drop" else 8)


def test_what_another_finished_meanwhile_under_another_policy_is_refused(
    leaking: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = ENGINES["local"]

    def slow(work: Path, shards: Sequence[int], processes: int, tell: Tell) -> None:
        monkeypatch.setitem(ENGINES, "local", quick)
        prepare_dataset(_recipe(leaking, "allow"), leaking / "out")

    monkeypatch.setitem(ENGINES, "local", slow)
    with pytest.raises(DataError, match=r'clean\.leakage was "allow", is "drop"'):
        prepare_dataset(_recipe(leaking, "drop"), leaking / "out")
    assert Prepared.load(leaking / "out").splits[0].rows == 8


def test_rows_planned_for_another_policy_are_refused(leaking: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that both have: what is planned depends on the policy."""
    rows = (leaking / "train" / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    with (leaking / "dev" / "metadata.jsonl").open("a", encoding="utf-8") as lines:
        lines.write(json.dumps({"file_name": "other5.wav", "text": json.loads(rows[0])["text"]}) + "\n")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(ENGINES, "local", stop)
    with pytest.raises(Interrupted):
        prepare_dataset(_recipe(leaking, "allow"), leaking / "out")
    with pytest.raises(DataError, match=r'clean\.leakage was "allow", is "drop"'):
        prepare_dataset(_recipe(leaking, "drop"), leaking / "out")
