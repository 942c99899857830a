"""Prepared datasets read back: windows of them are those of the recordings that they were made of, to the sample."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from whispertune.data.audio import AudioReader
from whispertune.data.clean import CleanRules
from whispertune.data.segments import Embedded, Joined, Problem, Segment, SourceData, SourceSpec
from whispertune.data.sources.dataset import is_dataset, read_dataset, stream_dataset
from whispertune.data.table import SegmentTable, as_table
from whispertune.errors import DataError
from whispertune.model.load import ModelFolder
from whispertune.prepare.finish import finish, work_of
from whispertune.prepare.job import write_shard
from whispertune.prepare.plan import make_plan
from whispertune.prepare.read import Everything, Held, ReadSource
from whispertune.prepare.rows import NamedTable
from whispertune.recipe_file import parse_recipe
from whispertune.windows.batches import LoadedWindow, PlannedWindow, load_window
from whispertune.windows.pack import CountTokens, Limits, Window, cut, join
from whispertune.windows.tokens import Vocabulary

RATE_HZ = 16_000
RECORDING_S = 100.0
LIMITS = Limits()


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two recordings of 16 bits at 16 kHz; no two places of them are alike."""
    folder = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    for name, kind in (("a.wav", "WAV"), ("b.flac", "FLAC")):
        samples = rng.integers(-32768, 32768, round(RECORDING_S * RATE_HZ)).astype(np.int16)
        soundfile.write(folder / name, samples, RATE_HZ, format=kind, subtype="PCM_16")
    return folder / "a.wav", folder / "b.flac"


def prepared(segments: Sequence[Segment], out: Path) -> SegmentTable:
    """Segments written as a dataset, and read from it."""
    recipe = parse_recipe({"model": "none", "data": {"train": [{"source": "made up"}]}})
    rules = CleanRules(**recipe.clean.model_dump())
    table = NamedTable(as_table(segments), "made up", segments[0].recording.parent)
    source = ReadSource("data.train.0", Held(len(segments), 0.0, "", ""))
    plan = make_plan(recipe, Everything(rules, {"train": (table,)}, {"train": ()}, (source,), (), ()), work_of(out))
    for number in range(len(plan.shards)):
        write_shard(work_of(out), number, lambda rows, seconds: None)
    assert finish(plan, out, recipe) is not None
    with AudioReader() as reader:
        return as_table(read_dataset(SourceSpec(str(out)), reader).segments)


def counter_of(vocabulary: Vocabulary) -> CountTokens:
    def count(segments: Sequence[Segment]) -> np.ndarray:
        return np.array([len(vocabulary.encode(each.text, each.language)) for each in segments], dtype=np.int32)

    return count


def windows_of(segments: Sequence[Segment], counter: CountTokens, seed: int) -> list[Window]:
    rng = np.random.default_rng(seed)
    return join(cut(segments, LIMITS, counter, rng), LIMITS, rng)


def loaded(window: Window, reader: AudioReader, base: ModelFolder, *, timestamps: bool) -> LoadedWindow:
    found = load_window(PlannedWindow(window, timestamps, True), reader, base.vocabulary)
    assert isinstance(found, LoadedWindow)
    assert not found.problems
    return found


@st.composite
def spoken(draw: st.DrawFn, paths: tuple[Path, Path]) -> list[Segment]:
    """Cues of both recordings, in chains and loose, at times of no grid."""
    segments: list[Segment] = []
    for path in paths:
        at_s = 0.0
        for number in range(draw(st.integers(1, 12))):
            gap_s = draw(st.one_of(st.just(0.0), st.floats(0.0, 7.0)))
            start_s = at_s + gap_s
            end_s = start_s + draw(st.floats(0.3, 12.0))
            if end_s > RECORDING_S:
                break
            continues = number > 0 and draw(st.booleans())
            lead_s = gap_s if continues else min(gap_s, draw(st.floats(0.0, 2.0)))
            text = f"rad {number} av {path.stem} " + "ord " * draw(st.integers(0, 6))
            named = f"{path.name}:{number}"
            segments.append(Segment(named, path, start_s, end_s, text, "sv", continues=continues, lead_s=lead_s))
            at_s = end_s
    return segments


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), seed=st.integers(0, 1000))
def test_windows_hold_the_samples_and_labels_they_held_before(
    data: st.DataObject,
    seed: int,
    recordings: tuple[Path, Path],
    base: ModelFolder,
    reader: AudioReader,
    tmp_path: Path,
) -> None:
    segments = data.draw(spoken(recordings))
    out = tmp_path / "dataset"
    shutil.rmtree(out, ignore_errors=True)
    table = prepared(segments, out)
    counter = counter_of(base.vocabulary)
    before, after = windows_of(segments, counter, seed), windows_of(table, counter, seed)
    assert len(before) == len(after)
    for old, new in zip(before, after, strict=True):
        for timestamps in (True, False):
            was = loaded(old, reader, base, timestamps=timestamps)
            is_now = loaded(new, reader, base, timestamps=timestamps)
            assert was.labels == is_now.labels
            np.testing.assert_array_equal(was.audio, is_now.audio)


def clip(path: Path, number: int, start_s: float, **more: object) -> Segment:
    end_s = start_s + 1.5
    return Segment(f"{path.name}:{number}", path, start_s, end_s, f"rad {number}", "sv", **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def chain(recordings: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of one chain of five cues, 0.5 s apart, and a clip from the start of another recording."""
    out = tmp_path_factory.mktemp("chain") / "dataset"
    segments = [clip(recordings[0], n, 3 + 2.0 * n, continues=n > 0, lead_s=0.5) for n in range(5)]
    prepared([*segments, clip(recordings[1], 5, 0.0, speaker="anna")], out)
    return out


def test_a_chain_is_one_recording_and_a_clip_is_its_row(chain: Path, reader: AudioReader) -> None:
    table = read_dataset(SourceSpec(str(chain)), reader).segments
    assert len({id(table[row].recording) for row in range(5)}) == 1
    joined, alone = table[0].recording, table[5].recording
    assert isinstance(joined, Joined)
    assert (joined.name, len(joined.parts)) == ("a.wav", 10)
    assert isinstance(alone, Embedded)
    assert (table[5].start_s, table[5].end_s, table[5].speaker, table[4].speaker) == (0.0, 1.5, "anna", None)


def test_streamed_rows_are_the_rows(chain: Path, reader: AudioReader) -> None:
    stream = stream_dataset(SourceSpec(f"{chain}:train"), reader)
    assert stream.shard_rows == (6,)
    assert list(stream.open(0, skip=2)) == list(read_dataset(SourceSpec(str(chain)), reader).segments)[2:]


@pytest.mark.parametrize(("limit", "rows"), [({"limit_rows": 3}, 3), ({"limit_hours": 3.1 / 3600}, 2)])
def test_limits(limit: dict[str, float], rows: int, chain: Path, reader: AudioReader) -> None:
    spec = SourceSpec(str(chain), **limit)  # type: ignore[arg-type]
    assert len(read_dataset(spec, reader).segments) == rows
    stream = stream_dataset(spec, reader)
    assert (stream.shard_rows, len(list(stream.open(0)))) == ((rows,), rows)


def rewritten(chain: Path, out: Path, rows: list[int]) -> Path:
    """A copy of the dataset with some of its rows, as somebody may have filtered or shuffled it."""
    shutil.copytree(chain, out)
    (file,) = (out / "data").iterdir()
    pq.write_table(pq.read_table(file).take(pa.array(rows, pa.int64())), file)
    return out


@pytest.mark.parametrize(
    ("rows", "continues", "leads"),
    [
        ([0, 1, 3, 4, 5], [False, True, False, True, False], [0.5, 0.5, 0.5, 0.5, 0.0]),
        ([4, 3, 2, 1, 0, 5], [False] * 6, [0.5] * 5 + [0.0]),
    ],
)
def test_rows_taken_out_or_shuffled_join_nothing_that_did_not_follow(
    rows: list[int], continues: list[bool], leads: list[float], chain: Path, reader: AudioReader, tmp_path: Path
) -> None:
    table = as_table(read_dataset(SourceSpec(str(rewritten(chain, tmp_path / "d", rows))), reader).segments)
    assert table.continues.tolist() == continues
    assert table.lead_s.tolist() == pytest.approx(leads)
    for segment in table:  # each row is heard where it says, whatever is around it
        assert len(reader.read(segment.recording, segment.start_s - segment.lead_s, segment.end_s))


def changed(chain: Path, out: Path, column: str, value: object) -> tuple[Path, Path]:
    """A copy of the dataset whose row 2 says something else, and its shard."""
    shutil.copytree(chain, out)
    (file,) = (out / "data").iterdir()
    table = pq.read_table(file)
    values = table[column].to_pylist()
    values[2] = value
    pq.write_table(table.set_column(table.schema.get_field_index(column), column, pa.array(values)), file)
    return out, file


@pytest.mark.parametrize(
    ("column", "value", "kind", "detail"),
    [
        ("id", None, "malformed row", "id is None"),
        ("text", None, "malformed row", "text is None"),
        ("text", " \n", "empty text", "text is ' \\n'"),
        ("language", None, "malformed row", "language is None"),
        ("language", "xx", "unknown language", "language is 'xx'"),
        ("task", "dance", "unknown task", "task is 'dance'"),
        ("recording", None, "malformed row", "recording is None"),
        ("start_s", None, "malformed row", "start_s is None"),
        ("start_s", float("nan"), "wrong times", "start_s is nan"),
        ("start_s", -1.0, "wrong times", "start_s is -1.0"),
        ("start_s", 99.0, "wrong times", "end_s is 8.5"),
        ("end_s", float("inf"), "wrong times", "end_s is inf"),
        ("end_s", 1e300, "longer than 30 s", "end_s is 1e+300"),
        ("before_s", 8.0, "wrong times", "before_s is 8.0"),
        ("lead_s", -0.5, "wrong times", "lead_s is -0.5"),
        ("continues", None, "malformed row", "continues is None"),
    ],
)
def test_a_row_that_says_what_cannot_be_is_a_problem(
    column: str, value: object, kind: str, detail: str, chain: Path, reader: AudioReader, tmp_path: Path
) -> None:
    out, file = changed(chain, tmp_path / "d", column, value)
    problem = Problem(f"{file} row 2", kind, detail)
    data = read_dataset(SourceSpec(str(out)), reader)
    assert data.problems == (problem,)
    assert [one.text for one in data.segments] == [f"rad {n}" for n in (0, 1, 3, 4, 5)]
    assert [one.continues for one in data.segments] == [False, True, False, True, False]
    for one in data.segments:
        assert len(reader.read(one.recording, one.start_s - one.lead_s, one.end_s))
    stream = stream_dataset(SourceSpec(str(out)), reader)
    whole = list(stream.open(0))
    assert (stream.shard_rows, whole) == ((6,), [*data.segments[:2], problem, *data.segments[2:]])
    assert [list(stream.open(0, skip)) for skip in range(7)] == [whole[skip:] for skip in range(7)]
    for limit, items in ((2, 3), (3, 4)):  # what cannot be used does not count
        stream = stream_dataset(SourceSpec(str(out), limit_rows=limit), reader)
        assert (stream.shard_rows, list(stream.open(0))) == ((items,), whole[:items])


def test_columns_that_are_missing_or_of_another_kind_are_one_line(
    chain: Path, tmp_path: Path, reader: AudioReader
) -> None:
    out, file = changed(chain, tmp_path / "d", "text", "x")
    table = pq.read_table(file)
    said = {
        "it has no text, lead_s": table.drop_columns(["text", "lead_s"]),
        "it has no audio": table.drop_columns(["audio"]),
        "is no shard that can be read": table.drop_columns(["text"]).append_column("text", pa.array([["x"]] * 6)),
    }
    not_utf8 = pa.Array.from_buffers(pa.string(), 6, pa.array([b"\xff"] * 6, pa.binary()).buffers())
    said["Invalid UTF8"] = table.drop_columns(["text"]).append_column("text", not_utf8)
    for what, wrong in said.items():
        pq.write_table(wrong, file)
        with pytest.raises(DataError, match=what) as caught:
            read_dataset(SourceSpec(str(out)), reader)
        assert "\n" not in caught.value.what
        assert caught.value.where == str(file)
    file.write_bytes(b"PAR1 and so on")
    with pytest.raises(DataError, match="is no shard that can be read"):
        stream_dataset(SourceSpec(str(out)), reader)


def test_a_shard_without_rows(chain: Path, tmp_path: Path, reader: AudioReader) -> None:
    out = rewritten(chain, tmp_path / "d", [])
    assert len(read_dataset(SourceSpec(str(out)), reader).segments) == 0


def test_what_is_no_dataset(chain: Path, tmp_path: Path, reader: AudioReader) -> None:
    assert is_dataset(chain)
    assert is_dataset(Path(f"{chain}:train"))
    assert not is_dataset(tmp_path)
    with pytest.raises(DataError, match="no prepared dataset"):
        read_dataset(SourceSpec(str(tmp_path)), reader)


def test_a_missing_shard_a_broken_one_and_a_wrong_split(chain: Path, tmp_path: Path, reader: AudioReader) -> None:
    with pytest.raises(DataError, match=r"has no split 'tset'[\s\S]*dataset:train"):
        read_dataset(SourceSpec(f"{chain}:tset"), reader)
    folder = tmp_path / "d" / "data"
    folder.mkdir(parents=True)
    (folder / "train-00000-of-00002.parquet").write_bytes(b"PAR1 and so on")
    with pytest.raises(DataError, match="holds 1 of the 2 shards of train"):
        read_dataset(SourceSpec(str(tmp_path / "d")), reader)
    (folder / "train-00001-of-00002.parquet").write_bytes(b"PAR1 and so on")
    with pytest.raises(DataError, match="is no shard that can be read"):
        read_dataset(SourceSpec(str(tmp_path / "d")), reader)


def test_several_splits_must_be_chosen_from(chain: Path, tmp_path: Path, reader: AudioReader) -> None:
    shutil.copytree(chain, tmp_path / "d")
    (file,) = (tmp_path / "d" / "data").iterdir()
    shutil.copy(file, file.with_name("validation-00000-of-00001.parquet"))
    with pytest.raises(DataError, match=r"several splits[\s\S]*:train, .*:dev"):
        read_dataset(SourceSpec(str(tmp_path / "d")), reader)
    found: SourceData = read_dataset(SourceSpec(f"{tmp_path / 'd'}:dev"), reader)
    assert len(found.segments) == 6


def test_the_language_of_the_recipe_stands_in_for_one_that_whisper_does_not_know(
    chain: Path, tmp_path: Path, reader: AudioReader
) -> None:
    out, _ = changed(chain, tmp_path / "d", "language", "mdw")
    for language in ("ln", "mdw"):
        spec = SourceSpec(str(out), language=language)
        data = read_dataset(spec, reader)
        assert [each.language for each in data.segments] == ["sv", "sv", language, "sv", "sv", "sv"]
        assert data.problems == ()
        assert list(stream_dataset(spec, reader).open(0)) == list(data.segments)
    out, _ = changed(chain, tmp_path / "names", "language", "Finnish")
    assert read_dataset(SourceSpec(str(out), language="ln"), reader).segments[2].language == "fi"


def test_an_empty_text_is_kept_where_rows_are_scored(chain: Path, tmp_path: Path, reader: AudioReader) -> None:
    out, _ = changed(chain, tmp_path / "d", "text", "")
    scored = read_dataset(SourceSpec(str(out), empty_texts=True), reader)
    assert ([each.text for each in scored.segments][2], scored.problems) == ("", ())
