"""Rows of dev and test whose ids are the same, as those of the first lines of two metadata files are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.train.runs import Notes, dev_recipe, open_dev
from whispertune.data.audio import AudioReader
from whispertune.model.load import ModelFolder
from whispertune.train.keeping.checkpoint import Progress
from whispertune.train.learning.schedule import Extent
from whispertune.train.run import Run

SENTENCES = {
    "train": ("The train leaves in the morning.", "We walk along the river."),
    "dev": ("The brown fox came late.", "Seven boats are on the water."),
    "test": ("My sister reads a long letter.", "There is bread on the table."),
}


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/, dev/ and test/ in the same layout: the lines of their metadata, and so the ids, have the same names."""
    speaker = pytest.importorskip("py_nanotts").NanoTTS()
    folder = tmp_path_factory.mktemp("speech")
    for split, sentences in SENTENCES.items():
        (folder / split).mkdir()
        for number, sentence in enumerate(sentences):
            samples = np.frombuffer(speaker.speak(sentence, voice="en-GB"), dtype=np.int16)
            soundfile.write(folder / split / f"{number}.wav", samples, 16_000)
        rows = [json.dumps({"file_name": f"{n}.wav", "text": text}) for n, text in enumerate(sentences)]
        (folder / split / "metadata.jsonl").write_text("\n".join(rows) + "\n")
    return folder


def test_dev_and_test_are_each_heard_although_their_ids_are_the_same(
    tmp_path: Path, speech: Path, tiny_en: ModelFolder, reader: AudioReader
) -> None:
    data = {name: [{"source": str(speech / name)}] for name in SENTENCES}
    recipe = dev_recipe(tiny_en, speech, data=data, language="en")
    devset = open_dev(recipe, Run(tmp_path / "run"), reader, Notes())
    before = devset.base()  # of test
    during = devset.evaluate(tiny_en.load(), Extent(10, None), Progress(step=3))
    assert {each.id for each in before.utterances} == {each.id for each in during.utterances}
    assert {each.reference for each in before.utterances} == set(SENTENCES["test"])
    assert {each.reference for each in during.utterances} == set(SENTENCES["dev"])
    assert before.scores.wer_normalized < 20
    assert during.scores.wer_normalized < 20
