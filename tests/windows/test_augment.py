"""Augmentation: drawn by key alone, never too much of it, and refused early where it cannot be."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from whispertune.data.audio import AudioReader
from whispertune.errors import DataError, RecipeError
from whispertune.recipe import Augment
from whispertune.windows.augment import Augmenter, AugmentSettings, Mask, apply_masks
from whispertune.windows.features import log_mel
from whispertune.windows.noise import NoiseFolder
from whispertune.windows.waveform import Samples

RATE_HZ = 16_000
SPANS = [(0, 240), (262, 800), (800, 803), (900, 901)]


def augmenter(reader: AudioReader, seed: int = 7, **asked: Any) -> Augmenter:
    return Augmenter(AugmentSettings(**Augment(**asked).model_dump()), seed, reader)


def voice(seconds: float, seed: int = 0) -> Samples:
    """Noise that comes and goes, as syllables do."""
    rng = np.random.default_rng(seed)
    loudness = np.repeat(rng.uniform(0, 0.2, int(seconds * 10) + 1), RATE_HZ // 10)[: round(seconds * RATE_HZ)]
    return (loudness * rng.normal(0, 1, len(loudness))).astype(np.float32)


@pytest.fixture(scope="module")
def hum(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings of noise: one of half a second in a folder below, one of a minute at another rate."""
    folder = tmp_path_factory.mktemp("hum")
    (folder / "below").mkdir()
    rng = np.random.default_rng(1)
    soundfile.write(folder / "below" / "short.wav", rng.normal(0, 0.1, RATE_HZ // 2), RATE_HZ)
    soundfile.write(folder / "long.flac", rng.normal(0, 0.1, 60 * 8_000), 8_000)
    (folder / "readme.txt").write_text("no recording")
    return folder


def everything(hum: Path) -> dict[str, Any]:
    shares = dict.fromkeys(("pitch_share", "noise_share", "room_share", "telephone_share", "codec_share"), 0.5)
    return {"pitch_semitones": 2.0, "gain_db": 6.0, "noise": str(hum), **shares}


def test_nothing_is_asked_for_by_default(reader: AudioReader) -> None:
    plain = augmenter(reader)
    assert not plain.active
    assert not plain.changes_audio
    audio = voice(1.0)
    assert plain.samples(audio, (0, 0, 0)) is audio
    assert plain.masks(SPANS, (0, 0)) == ()


@pytest.mark.parametrize(
    ("asked", "changes_audio"),
    [
        ({"time_masks": 2}, False),
        ({"frequency_masks": 1}, False),
        ({"gain_db": 3.0}, True),
        ({"room_share": 0.1}, True),
        ({"speed": (0.9, 1.0, 1.1)}, True),
    ],
)
def test_it_says_what_it_changes(asked: dict[str, Any], changes_audio: bool, reader: AudioReader) -> None:
    found = augmenter(reader, **asked)
    assert found.active
    assert found.changes_audio == changes_audio


@pytest.mark.parametrize(
    "asked",
    [
        {"time_masks": 2, "time_mask_share": 0},
        {"room_share": 0.0},
        {"speed": (1.0,)},
        {"pitch_share": 1.0},
        {"frequency_masks": 1, "frequency_mask_share": 0.0},
    ],
)
def test_what_changes_nothing_is_not_active(asked: dict[str, Any], reader: AudioReader) -> None:
    assert not augmenter(reader, **asked).active


def test_threads_and_order_have_no_part_in_what_is_heard(hum: Path, reader: AudioReader) -> None:
    pytest.importorskip("audiomentations")
    pieces = [voice(0.4 + number % 5, number) for number in range(24)]
    in_turn = [augmenter(reader, **everything(hum)).samples(piece, (3, 0, n)) for n, piece in enumerate(pieces)]
    shared = augmenter(reader, **everything(hum))
    with ThreadPoolExecutor(8) as threads:
        jobs = {n: threads.submit(shared.samples, pieces[n], (3, 0, n)) for n in reversed(range(24))}
        together = [jobs[n].result() for n in range(24)]
    for piece, one, other in zip(pieces, in_turn, together, strict=True):
        assert np.array_equal(one, other)
        assert one.shape == piece.shape
        assert one.dtype == np.float32
        assert np.abs(one).max() <= 1.0
    assert any(not np.array_equal(piece, one) for piece, one in zip(pieces, in_turn, strict=True))


def test_key_and_seed_decide(reader: AudioReader) -> None:
    audio = voice(1.0)
    one = augmenter(reader, gain_db=6.0, time_masks=3)
    assert np.array_equal(one.samples(audio, (1, 2)), augmenter(reader, gain_db=6.0).samples(audio, (1, 2)))
    assert not np.array_equal(one.samples(audio, (1, 2)), one.samples(audio, (1, 3)))
    assert not np.array_equal(one.samples(audio, (1, 2)), augmenter(reader, seed=8, gain_db=6.0).samples(audio, (1, 2)))
    assert one.masks(SPANS, (1,)) == one.masks(SPANS, (1,))
    assert one.masks(SPANS, (1,)) != one.masks(SPANS, (2,))


def test_one_kind_of_augmentation_has_no_part_in_another(reader: AudioReader) -> None:
    audio = voice(0.3)
    by_room, by_line = augmenter(reader, room_share=0.5), augmenter(reader, telephone_share=0.5)
    both = augmenter(reader, room_share=0.5, telephone_share=0.5)
    kinds = set()
    for n in range(40):
        in_room, on_line = by_room.samples(audio, (n,)), by_line.samples(audio, (n,))
        kinds.add((in_room is audio, on_line is audio))
        if on_line is audio:
            assert np.array_equal(both.samples(audio, (n,)), in_room)
    assert len(kinds) == 4


def test_shares_are_of_the_pieces_and_gain_stays_within_its_bound(reader: AudioReader) -> None:
    audio = voice(0.3)
    in_band = augmenter(reader, telephone_share=0.25)
    changed = sum(in_band.samples(audio, (n,)) is not audio for n in range(400))
    assert 70 <= changed <= 130
    gains = [float(augmenter(reader, gain_db=6.0).samples(audio, (n,))[99] / audio[99]) for n in range(200)]
    decibels = 20 * np.log10(gains)
    assert -6.0 <= decibels.min() < -4.0
    assert 4.0 < decibels.max() <= 6.0


def test_what_would_clip_is_made_quieter(reader: AudioReader) -> None:
    loud = np.clip(5 * voice(0.5), -1, 1)
    louder = augmenter(reader, gain_db=20.0)
    peaks = [float(np.abs(louder.samples(loud, (n,))).max()) for n in range(50)]
    assert max(peaks) == pytest.approx(1.0)
    assert max(peaks) <= 1.0


@pytest.mark.parametrize("samples", [0, 1, 7, 400])
def test_silence_and_hardly_any_samples_pass(samples: int, hum: Path, reader: AudioReader) -> None:
    pytest.importorskip("audiomentations")
    all_of_it = augmenter(reader, **{**everything(hum), **dict.fromkeys(("room_share", "codec_share"), 1.0)})
    for audio in (np.zeros(samples, dtype=np.float32), np.full(samples, 0.5, dtype=np.float32)):
        heard = all_of_it.samples(audio, (5,))
        assert heard.shape == audio.shape
        assert np.isfinite(heard).all()


def test_noise_from_short_and_long_recordings(hum: Path, reader: AudioReader) -> None:
    folder = NoiseFolder(hum, reader)
    assert len(folder) == 2
    drawn = [folder.draw(np.random.default_rng(n), 3 * RATE_HZ) for n in range(12)]
    repeated = 0
    for noise in drawn:
        assert noise is not None
        assert noise.shape == (3 * RATE_HZ,)
        assert noise.std() > 0.03
        repeated += np.array_equal(noise[: RATE_HZ // 2], noise[RATE_HZ // 2 : RATE_HZ])
    assert 0 < repeated < 12


def test_noise_is_kept_up_to_a_bound(tmp_path: Path, reader: AudioReader) -> None:
    for number in range(4):
        soundfile.write(tmp_path / f"{number}.wav", voice(1.0, number), RATE_HZ)
    folder = NoiseFolder(tmp_path, reader, kept_bytes=2 * RATE_HZ * 4)
    first = [folder.draw(np.random.default_rng(n), 800) for n in range(20)]
    assert sum(each.nbytes for each in folder._kept.values()) == 2 * RATE_HZ * 4
    for noise, again in zip(first, [folder.draw(np.random.default_rng(n), 800) for n in range(20)], strict=True):
        assert np.array_equal(noise, again)


def test_a_folder_without_noise_is_refused_at_once(tmp_path: Path, reader: AudioReader) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        augmenter(reader, noise=str(tmp_path / "absent"))
    (tmp_path / "readme.txt").write_text("nothing here")
    with pytest.raises(DataError, match="holds none"):
        augmenter(reader, noise=str(tmp_path))
    (tmp_path / "broken.wav").write_bytes(b"RIFF and no more")
    with pytest.raises(DataError, match="none of the 1 recordings"):
        augmenter(reader, noise=str(tmp_path))


def test_noise_that_does_not_decode_is_named_and_speech_goes_on(tmp_path: Path, reader: AudioReader) -> None:
    soundfile.write(tmp_path / "good.wav", voice(1.0), RATE_HZ)
    soundfile.write(tmp_path / "gone.wav", voice(1.0), RATE_HZ)
    (tmp_path / "broken.mp3").write_bytes(b"no audio")
    noisy = augmenter(reader, noise=str(tmp_path), noise_share=1.0)
    assert [Path(problem.where).name for problem in noisy.problems] == ["broken.mp3"]
    (tmp_path / "gone.wav").unlink()
    audio = voice(0.5, 9)
    heard = [noisy.samples(audio, (n,)) for n in range(20)]
    assert sorted({Path(problem.where).name for problem in noisy.problems}) == ["broken.mp3", "gone.wav"]
    assert 0 < sum(np.array_equal(each, audio) for each in heard) < 20
    assert {problem.source for problem in noisy.problems} == {"augment.noise"}


def test_noise_that_cannot_be_read_is_told_and_none_that_can_ends_it(tmp_path: Path, reader: AudioReader) -> None:
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / name, voice(1.0), RATE_HZ)
    assert augmenter(reader, noise=str(tmp_path), noise_share=1.0).notes == ()
    (tmp_path / "broken.mp3").write_bytes(b"no audio")
    noisy = augmenter(reader, noise=str(tmp_path), noise_share=1.0)
    (note,) = noisy.notes
    assert note.startswith(f"1 of 3 recordings of noise cannot be read, e.g. {tmp_path / 'broken.mp3'}: ")
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).unlink()
    with pytest.raises(DataError, match="none of the 2 recordings"):
        _ = [noisy.samples(voice(0.5), (number,)) for number in range(50)]


def test_what_cannot_be_is_refused(reader: AudioReader) -> None:
    with pytest.raises(RecipeError, match="lower one"):
        augmenter(reader, noise_snr_db=(30.0, 5.0))
    with pytest.raises(RecipeError, match="24 semitones"):
        augmenter(reader, pitch_semitones=30.0)


asked_masks = st.fixed_dictionaries(
    {
        "time_masks": st.integers(0, 12),
        "time_mask_share": st.floats(0, 1),
        "frequency_masks": st.integers(0, 12),
        "frequency_mask_share": st.floats(0, 1),
    }
)
lengths = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 700)), max_size=8)  # pause before it, its frames


@given(asked_masks, lengths, st.integers(0, 2**31), st.sampled_from([80, 128]))
def test_half_of_an_utterance_is_always_left(
    asked: dict[str, Any], lengths: list[tuple[int, int]], key: int, n_mels: int
) -> None:
    spans, at = [], 0
    for pause, length in lengths:
        spans.append((at + pause, at + pause + length))
        at += pause + length
    masks = augmenter(AudioReader(), **asked).masks(spans, (key,))
    assert len(masks) <= len(spans) * (asked["time_masks"] + asked["frequency_masks"])
    hidden = np.zeros((2, n_mels, at), dtype=bool)  # by masks of time, by those of frequency
    for mask in masks:
        bins = mask.bins(n_mels)
        of_time = (mask.first_share, mask.end_share) == (0.0, 1.0)
        assert any(first <= mask.first_frame < mask.end_frame <= end for first, end in spans)
        assert 0 <= bins.start <= bins.stop <= n_mels
        longest = asked["time_mask_share"] * max(end - first for first, end in spans)
        assert not of_time or mask.end_frame - mask.first_frame <= longest
        assert of_time or bins.stop - bins.start <= asked["frequency_mask_share"] * n_mels
        hidden[0 if of_time else 1, bins, mask.first_frame : mask.end_frame] = True
    for first, end in spans:
        frames = hidden[:, :, first:end]
        assert 2 * frames[0].all(axis=0).sum() <= end - first
        assert (2 * frames[1].sum(axis=0) <= n_mels).all()
        assert first == end or not frames.any(axis=0).all()


def test_widths_and_places_are_drawn_evenly(reader: AudioReader) -> None:
    one = augmenter(reader, time_masks=1, time_mask_share=0.1, frequency_masks=1, frequency_mask_share=0.2)
    masks = [mask for n in range(2_000) for mask in one.masks([(100, 1_100)], (n,))]
    of_time = [mask for mask in masks if mask.end_share - mask.first_share == 1.0]
    widths = np.array([mask.end_frame - mask.first_frame for mask in of_time])
    assert len(of_time) >= 1_950  # a mask may have no width
    assert widths.max() == 100
    assert widths.mean() == pytest.approx(50, abs=3)
    assert np.mean([(mask.first_frame + mask.end_frame) / 2 for mask in of_time]) == pytest.approx(600, abs=30)
    bins = [mask.bins(80) for mask in masks if mask not in of_time]
    assert max(each.stop - each.start for each in bins) == 15  # up to 16 of 80, which is drawn by one in so many
    assert np.mean([each.stop - each.start for each in bins]) == pytest.approx(7.5, abs=0.5)
    assert min(each.start for each in bins) == 0
    assert max(each.stop for each in bins) >= 79


def test_masks_change_what_they_cover_and_nothing_else() -> None:
    audio = np.stack([np.pad(voice(2.0, n) * (0.01, 1.0)[n], (0, RATE_HZ)) for n in range(2)])
    mel = log_mel(torch.from_numpy(audio), 80)
    before = mel.clone()
    masks = [(), (Mask(10, 50), Mask(60, 180, 0.25, 0.5), Mask(290, 400))]  # the last one past the end
    apply_masks(mel, masks)
    hidden = torch.zeros_like(mel, dtype=torch.bool)
    hidden[1, :, 10:50] = hidden[1, 20:40, 60:180] = hidden[1, :, 290:300] = True
    assert torch.equal(mel[~hidden], before[~hidden])
    fill = mel[hidden].unique()
    assert len(fill) == 1
    heard = before[1][before[1] > before[1].min()]
    assert fill.item() == pytest.approx(heard.mean().item(), abs=1e-4)


def test_the_fill_does_not_depend_on_padding_and_follows_loudness() -> None:
    audio = voice(2.0)
    fills = []
    for samples in (audio, np.pad(audio, (0, 5 * RATE_HZ)), audio * np.float32(0.1)):
        mel = log_mel(torch.from_numpy(samples[np.newaxis].copy()), 80)
        floor = mel.min().item()
        apply_masks(mel, [[Mask(20, 40)]])
        fills.append(mel[0, 0, 30].item())
        assert fills[-1] > floor + 0.2  # not what Whisper takes for silence
    assert fills[1] == pytest.approx(fills[0], abs=0.01)
    assert fills[2] == pytest.approx(fills[0] - 0.5, abs=0.02)  # 20 dB in Whisper's scale


def test_masks_of_silence_change_nothing() -> None:
    mel = log_mel(torch.zeros(1, RATE_HZ), 80)
    before = mel.clone()
    apply_masks(mel, [[Mask(0, 50), Mask(0, 100, 0.0, 0.5)]])
    assert torch.equal(mel, before)
