"""Clips that an export cannot be verified on are counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile

from whispertune.data.segments import Segment
from whispertune.model.load import ModelFolder
from whispertune.publish.comparison import Reference
from whispertune.publish.export import ExportReport, export
from whispertune.publish.exported import Exported, parse_formats
from whispertune.publish.runtimes.heard import Clip, Heard
from whispertune.publish.runtimes.transformers import Transformers
from whispertune.reporting import Reporter


def clips(folder: Path, *, broken: bool) -> list[Segment]:
    """Three, one of which breaks off."""
    found = []
    for number in range(3):
        path = folder / f"{number}.flac"
        soundfile.write(path, np.random.default_rng(number).normal(0, 0.1, 32_000), 16_000)
        found.append(Segment(str(number), path, 0.0, 2.0, "some words", "en"))
    if broken:
        content = path.read_bytes()
        path.write_bytes(content[:200] + bytes(len(content) - 200))
    return found


def verified(tiny: ModelFolder, segments: list[Segment], out: Path) -> ExportReport:
    return export(tiny, "transformers", out, reference=Reference(lambda: Transformers(tiny), segments))


def test_a_clip_that_breaks_off_is_counted(tiny: ModelFolder, tmp_path: Path) -> None:
    report = verified(tiny, clips(tmp_path, broken=True), tmp_path / "out")
    told = report.as_json()
    assert (told["clips"], told["clips_unreadable"]) == (2, 1)
    assert report.comparison is not None
    assert "on 2 clips with 4 words, 1 more cannot be read; " in report.comparison.told(report.tolerance)
    (wanted,) = parse_formats("transformers")
    kept = Exported.of(wanted, report).verified
    assert kept is not None
    assert "1 more cannot be read" in kept.told


def test_others_are_read_in_their_place(tmp_path: Path) -> None:
    """Clips are counted when they were read: those that cannot be read leave no gap in the 500 words."""
    three = [replace(each, text="word " * 400) for each in clips(tmp_path, broken=True)]
    found = Reference(Perfect, [three[2], *three[:2], replace(three[0], id="left")]).compare(Perfect(), Reporter())
    assert (found.clips, found.words, found.clips_unreadable) == (2, 800, 1)


def test_rows_of_train_come_where_the_others_have_too_few_words(tmp_path: Path) -> None:
    broken = [replace(each, text="word " * 200) for each in clips(tmp_path, broken=True)]
    train = [replace(each, id=f"train/{each.id}") for each in broken]
    found = Reference(Perfect, broken[1:], of_train=train).compare(Perfect(), Reporter())
    assert (found.clips, found.clips_of_train, found.words, found.clips_unreadable) == (3, 2, 600, 1)
    assert "on 3 clips with 600 words, 2 of them from train, 1 more cannot be read" in found.told(0.5)
    enough = Reference(Perfect, [replace(each, text="word " * 250) for each in broken], of_train=train)
    assert enough.compare(Perfect(), Reporter()).clips_of_train == 0


class Perfect:
    name = "perfect 1.0"

    def hear(self, clip: Clip) -> Heard:
        assert len(clip.samples) == 32_000
        return Heard("word " * 400, ())


def test_nothing_is_said_where_there_is_none(tiny: ModelFolder, tmp_path: Path) -> None:
    report = verified(tiny, clips(tmp_path, broken=False), tmp_path / "out")
    assert "clips_unreadable" not in report.as_json()
    assert report.comparison is not None
    assert "on 3 clips with 6 words; " in report.comparison.told(report.tolerance)
