"""Teacher-forced figures: against transformers' own loss, a naive calibration error, and models in training."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional as F

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Segment
from whispertune.decode.engines import LiveModel, live_engine, load_live
from whispertune.errors import DataError, InputError
from whispertune.evaluation import tokens as tokens_module
from whispertune.evaluation.evaluate import decode_segments
from whispertune.evaluation.inputs import Source
from whispertune.evaluation.tokens import Answers, Tally, TokenScores, TokenTally, mean_loss, spelled, token_scores
from whispertune.model.adapters import AdapterSettings
from whispertune.model.formats.transformers import write_folder
from whispertune.model.load import ModelFolder
from whispertune.model.loss import SummedLoss
from whispertune.model.parameters import Choice, merged_state, prepare

TEXTS = ["en gammal bro", "sol, måne och stjärnor", "hav", "skog och berg och en dal till"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Segment]:
    """Four clips of noise, of three lengths when they are cut to what is spoken."""
    folder = tmp_path_factory.mktemp("rows")
    rng = np.random.default_rng(1)
    found = []
    for number, text in enumerate(TEXTS):
        path, seconds = folder / f"{number}.wav", (1.2, 2.3, 1.4, 4.0)[number]
        soundfile.write(path, rng.normal(0, 0.1, round(16_000 * seconds)).astype(np.float32), 16_000)
        found.append(Segment(f"{number}", path, 0.0, seconds, text, "sv"))
    return found


def by_transformers(folder: ModelFolder, segments: Sequence[Segment]) -> tuple[float, int, torch.Tensor, torch.Tensor]:
    """Mean loss a token as the model itself computes it, how many tokens, and the logits and targets of them."""
    from transformers import WhisperFeatureExtractor

    model, vocabulary, extract = folder.load().eval(), folder.vocabulary, WhisperFeatureExtractor(feature_size=80)
    loss, logits, targets = 0.0, [], []
    for segment in segments:
        samples, rate = soundfile.read(segment.recording, dtype="float32")
        mel = extract(samples, sampling_rate=rate, return_tensors="pt").input_features
        prefix = vocabulary.prefix(segment.language, segment.task, timestamps=False)
        text = [*vocabulary.encode(segment.text, segment.language), vocabulary.end]
        labels = torch.tensor([[-100] * (len(prefix) - 1) + text])
        with torch.no_grad():
            found = model(mel, decoder_input_ids=torch.tensor([[*prefix, *text[:-1]]]), labels=labels)
        loss += float(found.loss) * len(text)
        logits.append(found.logits[0, len(prefix) - 1 :])
        targets.append(torch.tensor(text))
    answers, asked = torch.cat(logits), torch.cat(targets)
    return loss / len(asked), len(asked), answers, asked


def exact(folder: ModelFolder, segments: Sequence[Segment], reader: AudioReader) -> TokenScores:
    return token_scores(load_live(folder), segments, reader, context="full", precision="float32")


@pytest.fixture
def case(request: pytest.FixtureRequest, rows: list[Segment]) -> tuple[ModelFolder, list[Segment]]:
    """A model, and rows for it."""
    if request.param == "read English":
        return request.getfixturevalue("tiny_en"), english(request.getfixturevalue("english_read"))
    return request.getfixturevalue(request.param), rows


def english(folder: Path) -> list[Segment]:
    found = []
    for line in (folder / "metadata.jsonl").read_text().splitlines():
        row = json.loads(line)
        path = folder / row["file_name"]
        found.append(Segment(path.name, path, 0.0, soundfile.info(path).duration, row["text"], "en"))
    return found


@pytest.mark.parametrize("case", ["tiny", "sure", "read English"], indirect=True)
def test_all_figures_are_those_of_transformers(case: tuple[ModelFolder, list[Segment]], reader: AudioReader) -> None:
    folder, rows = case
    found = exact(folder, rows, reader)
    loss, count, logits, targets = by_transformers(folder, rows)
    assert found.tokens == count
    assert found.rows == len(rows)
    assert found.loss == pytest.approx(loss, abs=1e-4)
    logs = logits.double().log_softmax(-1)
    assert found.entropy == pytest.approx(float(-(logs.exp() * logs).sum(-1).mean()), abs=1e-4)
    right = (logits.argmax(-1) == targets).double()
    assert found.accuracy == pytest.approx(100 * float(right.mean()))
    losses = F.cross_entropy(logits.double(), targets, reduction="none")
    assert found.loss_share_correct == pytest.approx(100 * float((losses * right).sum() / losses.sum()), abs=0.01)
    assert found.loss_share_correct + found.loss_share_wrong == pytest.approx(100)
    confident = logs.amax(-1).exp().numpy()
    assert found.calibration_error == pytest.approx(naive_calibration(confident, right.numpy() > 0), abs=0.01)


def naive_calibration(confidences: NDArray[np.float64], correct: NDArray[np.bool_]) -> float:
    """Bin by bin, as the papers write it: per cent."""
    error = 0.0
    for number in range(15):
        inside = (confidences > number / 15) & (confidences <= (number + 1) / 15)
        if inside.any():
            error += inside.mean() * abs(correct[inside].mean() - confidences[inside].mean())
    return 100 * error


answers_lists = st.lists(
    st.tuples(
        st.floats(0, 12),
        st.floats(0, 10),
        st.one_of(st.floats(1e-6, 1), st.integers(1, 15).map(lambda n: n / 15)),
        st.booleans(),
        st.sampled_from("abcdefgh"),
    ),
    min_size=1,
    max_size=60,
)
Answered = list[tuple[float, float, float, bool, str]]


def tally(answered: Answered) -> TokenTally:
    losses, entropies, confidences, correct, words = zip(*answered, strict=True)
    found = Answers(np.array(losses), np.array(entropies), np.array(confidences), np.array(correct))
    return found.tally([[(word, 1)] for word in words])


@given(answered=answers_lists)
def test_the_calibration_error_is_the_one_of_the_papers(answered: Answered) -> None:
    confidences = np.array([each[2] for each in answered])
    correct = np.array([each[3] for each in answered])
    assert tally(answered).scores().calibration_error == pytest.approx(naive_calibration(confidences, correct))


def figures(scores: TokenScores) -> dict[str, float]:
    return {name: value for name, value in scores.as_json().items() if isinstance(value, float | int)}


@given(answered=answers_lists, at=st.integers(0, 60))
def test_shares_of_the_rows_add_up_to_all_of_them(answered: Answered, at: int) -> None:
    whole = tally(answered).scores()
    parts = [tally(part) if part else TokenTally() for part in (answered[:at], answered[at:])]
    joined = (pickle.loads(pickle.dumps(parts[0])) + parts[1]).scores()  # ranks send theirs to each other
    assert figures(joined) == pytest.approx(figures(whole))
    assert {w.word: w.count for w in joined.words} == {w.word: w.count for w in whole.words}
    for scores in (whole, joined):
        total = scores.loss * scores.tokens
        assert sum(word.loss for word in scores.words) == pytest.approx(total)
        assert [w.loss for w in scores.words] == sorted((w.loss for w in scores.words), reverse=True)
        if total:
            assert sum(word.share for word in scores.words) == pytest.approx(100)
            assert scores.loss_share_correct + scores.loss_share_wrong == pytest.approx(100)


def test_only_the_words_that_carry_most_are_named() -> None:
    answered = [(float(n), 0.0, 0.5, False, f"w{n}") for n in range(1, 81)]
    words = tally(answered).scores().words
    assert [word.word for word in words] == [f"w{n}" for n in range(80, 30, -1)]
    assert words[0].share == pytest.approx(100 * 80 / (80 * 81 / 2))


def test_nothing_to_score() -> None:
    with pytest.raises(DataError, match="no token"):
        TokenTally().scores()


# --- what a text is made of ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "language", "words"),
    [
        ("And so, my fellow Americans!", "en", ["And", "so,", "my", "fellow", "Americans!"]),
        ("wáre la mωánà ε̂ngε ɔ̀sí", "ln", ["wáre", "la", "mωánà", "ε̂ngε", "ɔ̀sí"]),
        ("यह एक परीक्षण है।", "hi", ["यह", "एक", "परीक्षण", "है।"]),
        ("இது ஒரு சோதனை", "ta", ["இது", "ஒரு", "சோதனை"]),
        ("هذا اختبارٌ بسيط", "ar", ["هذا", "اختبارٌ", "بسيط"]),
        ("två  mellanslag\noch en rad", "sv", ["två", "mellanslag", "och", "en", "rad"]),
        ("今天天气很好,我们去公园", "zh", None),
        ("วันนี้อากาศดีมาก", "th", None),
        ("鬱齉龘", "zh", None),
    ],
)
def test_words_are_parted_by_white_space_or_are_tokens_of_whole_characters(
    text: str, language: str, words: list[str] | None, base: ModelFolder
) -> None:
    """None: a script without spaces, in which it is the tokenizer that says what a word is."""
    tokens = base.vocabulary.encode(text, language)
    found = spelled(tokens, base.vocabulary)
    assert sum(count for _, count in found) == len(tokens)
    if words is not None:
        assert [word for word, _ in found] == words
        return
    assert "".join(word for word, _ in found) == text
    assert 2 < len(found) <= len(tokens)
    assert all("\ufffd" not in word for word, _ in found)


def test_words_in_a_script_with_spaces_beside_one_without(base: ModelFolder) -> None:
    found = spelled(base.vocabulary.encode("我用 Python 写", "zh"), base.vocabulary)
    assert "Python" in [word for word, _ in found]
    assert "".join(word for word, _ in found) == "我用Python写"


# --- rows ------------------------------------------------------------------------------------------------------------


def test_neither_batches_nor_chunks_change_a_figure(
    sure: ModelFolder, rows: list[Segment], reader: AudioReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, seen = load_live(sure), []

    def measured(batch: int) -> dict[str, float]:
        found = token_scores(
            live,
            rows,
            reader,
            context="fit",
            batch=batch,
            precision="float32",
            progress=lambda done, total: seen.append((done, total)),
        )
        return figures(found)

    whole = measured(8)
    assert seen[-1] == (4, 4)
    monkeypatch.setattr(tokens_module, "CHUNK_TOKENS", 3)
    assert measured(1) == pytest.approx(whole, rel=1e-4)


def test_cut_to_what_is_spoken_the_silence_is_not_there(
    sure: ModelFolder, rows: list[Segment], reader: AudioReader
) -> None:
    live, lengths = load_live(sure), []
    live.model.model.encoder.conv1.register_forward_hook(lambda module, given, out: lengths.append(given[0].shape[-1]))
    fit = token_scores(live, rows, reader, context="fit")
    assert sorted(lengths) == [150, 250, 400]  # frames of 10 ms; the two of 1.2 and 1.4 s are together
    lengths.clear()
    full = token_scores(live, rows, reader, context="full")
    assert lengths == [3000]
    assert fit.tokens == full.tokens


def test_rows_that_cannot_be_scored_are_named(
    tiny: ModelFolder, rows: list[Segment], reader: AudioReader, tmp_path: Path
) -> None:
    (tmp_path / "broken.wav").write_bytes(b"RIFF no audio")
    bad = [
        replace(rows[0], id="broken", recording=tmp_path / "broken.wav"),
        replace(rows[0], id="silent", text=" "),
        replace(rows[0], id="long", text="ett två tre fyra fem " * 120),
    ]
    found = token_scores(load_live(tiny), [*bad, rows[1]], reader, context="full")
    assert {problem.where: problem.kind for problem in found.problems} == {
        "broken": "audio does not decode",
        "silent": "empty text",
        "long": "text too long for the decoder",
    }
    assert found.rows == 1
    told = json.loads(json.dumps(found.as_json()))
    assert (told["measured"], told["rows_left_out"]) == ("teacher-forced", 3)
    with pytest.raises(DataError, match="no token"):
        token_scores(load_live(tiny), bad, reader, context="full")
    with pytest.raises(InputError, match="xx"):
        token_scores(load_live(tiny), [replace(rows[0], language="xx")], reader, context="full")


# --- models in training ----------------------------------------------------------------------------------------------


def trained(folder: ModelFolder, choice: Choice, dropout: float = 0.0) -> LiveModel:
    """A model as the loop has it, with adapters that have learned something where there are any."""
    live = load_live(folder, dropout)
    prepare(live.model, choice)
    generator = torch.Generator().manual_seed(3)
    for name, value in live.model.named_parameters():
        if "lora_" in name:
            value.data = torch.randn(value.shape, generator=generator) * 0.2
    return live


def test_a_model_in_training_is_left_as_it_was(sure: ModelFolder, rows: list[Segment], reader: AudioReader) -> None:
    live = trained(sure, Choice(freeze=("encoder.layers.0",)), dropout=0.5)
    module = SummedLoss(live.model, stochastic_depth=0.5, compiled=True)  # compiling would take minutes
    module.train()
    modes = {name: part.training for name, part in live.model.named_modules()}
    assert set(modes.values()) == {True, False}  # frozen layers stay as they decode
    weights = {name: value.clone() for name, value in live.model.state_dict().items()}
    random = torch.get_rng_state()
    found = token_scores(live, rows, reader, context="full", precision="float32")
    assert {name: part.training for name, part in live.model.named_modules()} == modes
    assert all(torch.equal(value, weights[name]) for name, value in live.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(layer.compiled for layer in live.model.model.decoder.layers)
    assert found.loss == pytest.approx(exact(sure, rows, reader).loss, abs=1e-5)
    assert all(value.grad is None for value in live.model.parameters())


def test_it_is_put_back_where_that_is_broken_off(tiny: ModelFolder, rows: list[Segment], reader: AudioReader) -> None:
    live = load_live(tiny)
    live.model.train()

    def stop(module: torch.nn.Module, given: object) -> None:
        assert not live.model.training
        raise KeyboardInterrupt

    live.model.model.encoder.conv1.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        token_scores(live, rows, reader, context="fit")
    assert live.model.training
    assert live.model.model.decoder.layers[0].training


def test_adapters_count(sure: ModelFolder, rows: list[Segment], reader: AudioReader, tmp_path: Path) -> None:
    live = trained(sure, Choice(method="lora", adapters=AdapterSettings(rank=4, alpha=8)))
    live.model.train()
    found = token_scores(live, rows, reader, context="full", precision="float32")
    assert any("lora_" in name for name, _ in live.model.named_parameters())
    write_folder(tmp_path, merged_state(live.model), sure.shape, sure.tokenizer_json, sure.generation)
    merged = by_transformers(ModelFolder("merged", tmp_path), rows)[0]
    assert found.loss == pytest.approx(merged, abs=1e-4)
    assert abs(merged - by_transformers(sure, rows)[0]) > 1e-3


def test_what_an_engine_encoded_is_not_encoded_again(
    sure: ModelFolder, rows: list[Segment], reader: AudioReader
) -> None:
    live = load_live(sure)
    encoded: list[int] = []
    live.model.model.encoder.conv1.register_forward_hook(lambda module, given, out: encoded.append(len(out)))
    tally = Tally(live, "float32")
    silent = replace(rows[0], id="silent", text=" ")
    found, _ = decode_segments(
        live_engine("ctranslate2", live), [*rows, silent], Source(reader, "full"), listener=tally
    )
    assert len(found) == 5
    assert not encoded
    by_states = tally.found.scores()
    assert (by_states.rows, [problem.where for problem in by_states.problems]) == (4, ["silent"])
    assert by_states.loss == pytest.approx(exact(sure, rows, reader).loss, rel=1e-4)
    assert tally.seconds > 0
    assert tally.rows.keys() == {row.id for row in rows}
    assert mean_loss(tally.rows.values()) == pytest.approx(by_states.loss)
    for row in rows:
        alone = exact(sure, [row], reader)
        assert tally.rows[row.id].tokens == alone.tokens
        assert mean_loss([tally.rows[row.id]]) == pytest.approx(alone.loss, rel=1e-4)
    assert mean_loss([]) is None


# --- a real model on real speech -------------------------------------------------------------------------------------


def test_read_english(base: ModelFolder, english_read: Path, reader: AudioReader) -> None:
    segments, live = english(english_read), load_live(base)
    found = token_scores(live, segments, reader, context="full")
    assert found.accuracy > 93
    assert found.loss < 0.25  # 1.1 where one merge of the tokenizer is missing
    assert found.calibration_error < 6
    assert found.loss_share_wrong > found.loss_share_correct  # few tokens are wrong, and they cost
    assert {word.word for word in found.words} <= {
        *(word for segment in segments for word in segment.text.split()),
        "<|endoftext|>",
    }
    garbled = replace(segments[0], text=" ".join(reversed(segments[0].text.split())))
    assert token_scores(live, [garbled], reader, context="full").loss > 10 * found.loss
