"""Every format by real files: positions, broken files, and a decoder that dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.data.conftest import encode_with_libav, sweep
from whispertune.data.audio import SAMPLE_RATE_HZ, AudioInfo, AudioReader
from whispertune.errors import AudioError

NAMES = (
    "a.wav",
    "phone.wav",
    "stereo.flac",
    "odd.wav",
    "a.mp3",
    "a.ogg",
    "a.opus",
    "a.m4a",
    "a.mp4",
    "a.mkv",
    "a.webm",
)
LENGTH_S = 20.0


def test_raw_packets_are_as_long_as_they_are(tmp_path: Path, reader: AudioReader) -> None:
    """libav takes the bit rate of the first packets for all, and half a minute of silence has next to none."""
    samples = np.concatenate([np.zeros(30 * 44_100, np.float32), sweep(LENGTH_S, 44_100)])
    path = encode_with_libav(tmp_path / "a.aac", samples, 44_100, "aac")
    assert reader.probe(path).duration_s == pytest.approx(30 + LENGTH_S, abs=0.1)
    assert abs(reader.read(path, 10.0, 29.0)).max() < 0.01 < abs(reader.read(path, 31.0, 32.0)).max()


def expected(duration_s: float = LENGTH_S) -> np.ndarray:
    """What all the files hold, straight at 16 kHz."""
    time_s = np.arange(round(duration_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    return 0.3 * np.sin(2 * np.pi * (150 + 20 * time_s) * time_s) * (1 + 0.5 * np.sin(5 * time_s))


@pytest.mark.parametrize("name", NAMES)
def test_each_format_gives_its_sound_at_16_khz(recordings: Path, reader: AudioReader, name: str) -> None:
    info = reader.probe(recordings / name)
    samples = reader.read(recordings / name)
    assert abs(info.duration_s - LENGTH_S) < 0.05
    assert info.channels == (2 if name == "stereo.flac" else 1)
    assert samples.dtype == np.float32
    assert abs(len(samples) - LENGTH_S * SAMPLE_RATE_HZ) < 1000
    sound = expected()
    level = np.dot(samples[1000:300_000], sound[1000:300_000]) / np.dot(sound[1000:300_000], sound[1000:300_000])
    assert level == pytest.approx(0.75 if name == "stereo.flac" else 1.0, abs=0.03)  # the mean of the channels
    likeness = [np.dot(samples[1000 + lag : 300_000 + lag], sound[1000:300_000]) for lag in range(-40, 41)]
    assert int(np.argmax(likeness)) - 40 == 0  # no delay is left of the codec


@pytest.mark.parametrize("name", NAMES)
def test_a_stretch_is_the_slice_of_the_whole(recordings: Path, reader: AudioReader, name: str) -> None:
    whole = reader.read(recordings / name)
    rng = np.random.default_rng(7)
    stretches = [(0.0, 0.5), (0.1, 3.0), (19.0, 19.9), *((s, s + 2.5) for s in rng.uniform(0, 17, 12))]
    for start_s, end_s in stretches:
        part = reader.read(recordings / name, start_s, end_s)
        slice_ = whole[round(start_s * SAMPLE_RATE_HZ) : round(end_s * SAMPLE_RATE_HZ)]
        assert len(part) == len(slice_)
        np.testing.assert_allclose(part, slice_, atol=1e-3)


def test_what_is_behind_the_end_is_not_there(recordings: Path, reader: AudioReader) -> None:
    assert len(reader.read(recordings / "a.wav", 19.5, 25.0)) == SAMPLE_RATE_HZ // 2
    for name in ("a.wav", "a.mp3", "a.m4a", "a.webm", "a.opus", "stereo.flac"):
        with pytest.raises(AudioError, match=r"there is no audio from 21\.00 s on"):
            reader.read(recordings / name, 21.0, 22.0)
    for start_s, end_s in ((3.0, 3.0), (3.0, 2.0), (-1.0, 2.0)):
        with pytest.raises(AudioError, match="holds no audio"):
            reader.read(recordings / "a.wav", start_s, end_s)


@pytest.mark.parametrize("name", ["a.mp3", "stereo.flac", "a.opus"])
def test_of_a_truncated_file_is_read_what_is_there(
    recordings: Path, reader: AudioReader, tmp_path: Path, name: str
) -> None:
    data = (recordings / name).read_bytes()
    cut = tmp_path / name
    cut.write_bytes(data[: len(data) // 2])
    there = reader.read(cut)
    whole = reader.read(recordings / name)
    assert 3 * SAMPLE_RATE_HZ < len(there) < 17 * SAMPLE_RATE_HZ
    np.testing.assert_allclose(there[: len(there) - 2000], whole[: len(there) - 2000], atol=1e-3)
    with pytest.raises(AudioError, match="there is no audio from"):
        reader.read(cut, 18.0, 19.0)
    np.testing.assert_allclose(reader.read(cut, 1.0, 2.0), whole[16_000:32_000], atol=1e-3)
    if name != "stereo.flac":  # the header of FLAC is believed
        assert abs(reader.probe(cut).duration_s - len(there) / SAMPLE_RATE_HZ) < 0.05


def test_a_flac_out_of_a_pipe_is_as_long_as_what_is_in_it(
    recordings: Path, reader: AudioReader, tmp_path: Path
) -> None:
    """What writes to a pipe cannot go back to say how many samples there were."""
    piped, stated = tmp_path / "piped.flac", recordings / "stereo.flac"
    data = bytearray(stated.read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    piped.write_bytes(bytes(data))
    assert reader.probe(piped) == AudioInfo(LENGTH_S, 44_100, 2)
    for stretch in ((0.0, None), (3.0, 5.0), (19.0, 25.0)):
        np.testing.assert_array_equal(reader.read(piped, *stretch), reader.read(stated, *stretch))
    with pytest.raises(AudioError, match=r"no audio from 21\.00 s on \(its header says 20\.00 s"):
        reader.read(piped, 21.0, 22.0)
    piped.write_bytes(bytes(data[: len(data) // 2]))
    assert reader.probe(piped).duration_s == pytest.approx(len(reader.read(piped)) / SAMPLE_RATE_HZ, abs=0.001)


def test_damage_within_a_stretch_is_an_error_and_before_it_is_not(
    recordings: Path, reader: AudioReader, tmp_path: Path
) -> None:
    data = bytearray((recordings / "a.m4a").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = b"\xff" * 2000
    broken = tmp_path / "a.m4a"
    broken.write_bytes(bytes(data))
    with pytest.raises(AudioError, match="is damaged at about"):
        reader.read(broken)
    whole = reader.read(recordings / "a.m4a")
    np.testing.assert_allclose(reader.read(broken, 17.0, 19.0), whole[17 * 16_000 : 19 * 16_000], atol=1e-3)


def test_each_broken_file_says_what_is_wrong(recordings: Path, tmp_path: Path, reader: AudioReader) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("This is no audio.\n" * 100)
    (tmp_path / "list.m4a").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n" + str(recordings / "a.mp3"))
    (tmp_path / "folder.wav").mkdir()
    soundfile.write(tmp_path / "nan.wav", np.array([0, np.nan, np.inf] * 999, np.float32), 16_000, "FLOAT")
    said = {
        "empty.wav": "the file is empty",
        "text.wav": "is not audio",
        "list.m4a": "is not audio",
        "folder.wav": "is not a file",
        "nan.wav": "not numbers",
        "nothing.wav": "there is no such file",
        "zero\0.wav": "there is no such file",
    }
    for name, what in said.items():
        with pytest.raises(AudioError, match=what) as caught:
            reader.read(tmp_path / name)
        assert caught.value.where == str(tmp_path / name)
    assert len(reader.read(recordings / "a.wav", 0, 1)) == SAMPLE_RATE_HZ


def test_a_video_without_sound_is_an_audio_error(tmp_path: Path, reader: AudioReader) -> None:
    import av

    with av.open(str(tmp_path / "silent.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(AudioError, match="has no sound in it"):
        reader.probe(tmp_path / "silent.mp4")


def test_many_are_probed_in_one_go(recordings: Path, tmp_path: Path, reader: AudioReader) -> None:
    found = reader.probe_many([recordings / "phone.wav", tmp_path / "none.wav", recordings / "stereo.flac"] * 200)
    assert found[0] == AudioInfo(LENGTH_S, 8000, 1)
    assert isinstance(found[1], AudioError)
    assert found[2] == AudioInfo(LENGTH_S, 44_100, 2)
    assert [type(one) for one in found] == [AudioInfo, AudioError, AudioInfo] * 200
    assert reader.probe_many([]) == []


def test_a_long_recording_is_read_in_random_order(tmp_path: Path, reader: AudioReader) -> None:
    minute = np.arange(60 * 16_000) / 16_000
    with soundfile.SoundFile(tmp_path / "long.mp3", "w", 16_000, 1) as file:
        for number in range(20):  # minute n is a tone of 200 + 50 n Hz
            file.write(0.3 * np.sin(2 * np.pi * (200 + 50 * number) * minute))
    order = np.random.default_rng(1).permutation(20)
    for number in order:
        start_s = 60.0 * number + 20
        spectrum = np.abs(np.fft.rfft(reader.read(tmp_path / "long.mp3", start_s, start_s + 1)))
        assert spectrum.argmax() == 200 + 50 * number
    assert abs(reader.probe(tmp_path / "long.mp3").duration_s - 1200) < 0.1


@pytest.mark.parametrize("kind", ["mp3", "ogg"])
def test_where_blocks_of_decoding_meet_nothing_is_heard(tmp_path: Path, reader: AudioReader, kind: str) -> None:
    time_s = np.arange(50 * 48_000) / 48_000
    tone = 0.3 * np.sin(2 * np.pi * 300 * time_s)
    path = tmp_path / f"tone.{kind}"
    with soundfile.SoundFile(path, "w", 48_000, 1) as file:
        for start in range(0, len(tone), 4800):
            file.write(tone[start : start + 4800])
    whole = reader.read(path)
    np.testing.assert_allclose(whole[8000:-8000], tone[24_000:-24_000:3], atol=0.02)


def test_a_file_that_changes_is_opened_again(tmp_path: Path, reader: AudioReader) -> None:
    soundfile.write(tmp_path / "x.wav", np.zeros(16_000), 16_000, "FLOAT")
    assert len(reader.read(tmp_path / "x.wav")) == 16_000
    soundfile.write(tmp_path / "x.wav", np.full(8000, 0.5), 16_000, "FLOAT")
    assert reader.read(tmp_path / "x.wav") == pytest.approx(0.5, abs=1e-3)


def test_more_recordings_than_are_kept_open(recordings: Path, tmp_path: Path, reader: AudioReader) -> None:
    for number in range(20):
        soundfile.write(tmp_path / f"{number}.wav", np.full(1600, number / 100), 16_000, "FLOAT")
    for number in [*range(20), *range(20)]:
        assert reader.read(tmp_path / f"{number}.wav").mean() == pytest.approx(number / 100, abs=1e-3)


def test_a_child_that_was_killed_is_started_again(recordings: Path) -> None:
    with AudioReader() as reader:
        reader.probe(recordings / "odd.wav")
        first = reader.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
        assert len(reader.read(recordings / "odd.wav", 0, 1)) == SAMPLE_RATE_HZ
        assert reader.pid != first
    assert reader.pid is None


def test_a_child_that_dies_or_hangs_costs_one_file(recordings: Path) -> None:
    path = recordings / "odd.wav"
    with AudioReader(time_limit_s=0.5) as reader:
        reader.probe(path)
        assert reader.pid is not None
        os.kill(reader.pid, signal.SIGSTOP)
        found = reader.probe_many([path, path, path])
        assert isinstance(found[0], AudioError)
        assert "kept the decoder busy for more than 0.5 s" in str(found[0])
        assert [type(one) for one in found[1:]] == [AudioInfo, AudioInfo]
    with AudioReader() as reader:
        reader.probe(path)
        assert reader.pid is not None
        os.kill(reader.pid, signal.SIGSTOP)
        killer = threading.Timer(0.3, os.kill, (reader.pid, signal.SIGKILL))
        killer.start()
        with pytest.raises(AudioError, match="broke the decoder"):
            reader.read(path)
        killer.join()
        assert len(reader.read(path, 0, 1)) == SAMPLE_RATE_HZ


def test_threads_share_a_reader(recordings: Path, reader: AudioReader) -> None:
    whole = {name: reader.read(recordings / name) for name in ("odd.wav", "a.mp3", "a.webm")}
    wrong: list[str] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(15):
            name, second = rng.choice(list(whole)), int(rng.integers(0, 18))
            part = reader.read(recordings / str(name), second, second + 1)
            if not np.allclose(part, whole[str(name)][second * 16_000 : (second + 1) * 16_000], atol=1e-3):
                wrong.append(f"{name} {second}")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_caller_s_folder_and_main_module_are_left_alone(recordings: Path, tmp_path: Path) -> None:
    """No guard around the main module is needed, and modules that lie around are not imported."""
    (tmp_path / "soundfile.py").write_text("raise SystemExit('imported')")
    root = Path(__file__).parents[2]
    (tmp_path / "script.py").write_text(
        f"import sys; sys.path[0] = {str(root)!r}\n"
        "from pathlib import Path\nfrom whispertune.data.audio import AudioReader\n"
        f"print(len(AudioReader().read(Path({str(recordings / 'odd.wav')!r}))))\n"
        "loaded = {'torch', 'transformers', 'av', 'multiprocessing.pool'} & set(sys.modules)\n"
        "print(sorted(loaded))\n"
    )
    result = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.split("\n")[:2] == [str(int(LENGTH_S * SAMPLE_RATE_HZ)), "[]"]
