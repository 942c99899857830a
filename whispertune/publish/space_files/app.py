"""A model before and after fine-tuning, side by side: speak or choose a file, and read what each of them writes.

    pip install -r requirements.txt
    python app.py          # then open http://127.0.0.1:7860

Which models, which language and which task stand in space.json beside this file. A model is a name on the hub or a
folder (relative to this one). Both are decoded alike: greedily, and by one runtime. That is faster-whisper where both
have a CTranslate2 model in them or under ct2/, and transformers where both have its files; only of models that have
nothing in common each is run by what it is for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # gradio reads it when it is imported

import av
import gradio as gr
import numpy as np
from faster_whisper.audio import decode_audio

HERE = Path(__file__).parent
SAMPLE_RATE_HZ = 16_000
WINDOW_SAMPLES = 30 * SAMPLE_RATE_HZ  # what Whisper hears at once
CTRANSLATE2 = "ct2"  # the folder of a repository that faster-whisper takes
TRANSFORMERS = "transformers"
SETTINGS = ["*.json", "*.txt"]
WEIGHTS = (["model.safetensors", "model-0*.safetensors"], ["pytorch_model*.bin"])  # of the first that are there
RIGHT_TO_LEFT = ("ar", "fa", "he", "ps", "sd", "ur", "yi")

Transcriber = Callable[[np.ndarray], str]


def common(names: Sequence[str]) -> list[str]:
    """What each model is run by: the same for all where that can be."""
    found = [_forms(_files(name)) for name in names]
    for name, forms in zip(names, found, strict=True):
        if not forms:
            raise SystemExit(f"{name}: no model for faster-whisper or transformers")
    shared = [form for form in found[0] if all(form in forms for forms in found)]
    return [(shared or forms)[0] for forms in found]


def find(name: str, form: str) -> Path:
    """The folder of a model in one of its forms, which is downloaded where it is not here."""
    folder = HERE / name
    if not folder.is_dir():
        folder = Path(_download(name, form))
    inner = folder / CTRANSLATE2
    return inner if form == CTRANSLATE2 and (inner / "model.bin").is_file() else folder


def _files(name: str) -> list[str]:
    folder = HERE / name
    if folder.is_dir():
        return [path.relative_to(folder).as_posix() for path in (*folder.glob("*"), *folder.glob(f"{CTRANSLATE2}/*"))]
    from huggingface_hub import list_repo_files

    return list(list_repo_files(name))


def _forms(files: Sequence[str]) -> list[str]:
    forms = [CTRANSLATE2] if {"model.bin", f"{CTRANSLATE2}/model.bin"} & set(files) else []
    return [*forms, TRANSFORMERS] if _weights(files) else forms


def _weights(files: Sequence[str]) -> list[str]:
    """The patterns of the weights that transformers loads."""
    there = (patterns for patterns in WEIGHTS if any(fnmatch(file, each) for file in files for each in patterns))
    return next(there, [])


def _download(name: str, form: str) -> str:
    from huggingface_hub import snapshot_download

    files = _files(name)
    if form == CTRANSLATE2 and f"{CTRANSLATE2}/model.bin" in files:
        return str(snapshot_download(name, allow_patterns=[f"{CTRANSLATE2}/*"]))
    weights = ["model.bin"] if form == CTRANSLATE2 else _weights(files)
    return str(snapshot_download(name, allow_patterns=[*SETTINGS, *weights], ignore_patterns=["*/*"]))


def open_model(name: str, form: str, language: str | None, task: str) -> Transcriber:
    """A model by name, loaded."""
    load = _faster_whisper if form == CTRANSLATE2 else _transformers
    return load(find(name, form), language, task)


def _faster_whisper(folder: Path, language: str | None, task: str) -> Transcriber:
    from faster_whisper import WhisperModel

    whisper = WhisperModel(str(folder), device="auto")
    # faster-whisper has a list of its own; the model's leaves out what its training texts have: brackets, quotes ...
    suppress = json.loads((folder / "config.json").read_text()).get("suppress_ids", [-1])

    def transcribe(samples: np.ndarray) -> str:
        # Less than 30 s is filled up with silence: faster-whisper would put zeros into the features, which is another
        # thing and which no model was trained on.
        short = len(samples) <= WINDOW_SAMPLES
        found, _ = whisper.transcribe(
            np.pad(samples, (0, max(0, WINDOW_SAMPLES - len(samples)))),
            language=language,
            task=task,
            beam_size=1,
            temperature=0.0,
            without_timestamps=short,
            condition_on_previous_text=False,
            no_speech_threshold=None,
            log_prob_threshold=None,
            compression_ratio_threshold=None,
            suppress_tokens=suppress,
        )
        return "".join(piece.text for piece in found).strip()

    return transcribe


def _transformers(folder: Path, language: str | None, task: str) -> Transcriber:
    import torch
    from transformers import pipeline

    device = "cuda" if torch.cuda.is_available() else "cpu"
    whisper = pipeline("automatic-speech-recognition", model=str(folder), dtype=torch.float32, device=device)
    options: dict[str, Any] = {"num_beams": 1}
    if getattr(whisper.model.generation_config, "is_multilingual", True):  # English-only models take neither
        options |= {"task": task} | ({"language": language} if language else {})

    def transcribe(samples: np.ndarray) -> str:
        long = len(samples) > WINDOW_SAMPLES  # only with timestamps does it go on behind the first 30 s
        return str(whisper(samples.copy(), return_timestamps=long, generate_kwargs=dict(options))["text"]).strip()

    return transcribe


def read(recording: str | None) -> np.ndarray:
    """The samples of what was recorded or chosen."""
    if recording is None:
        raise gr.Error("Record something, or choose a file.", title="No speech yet", print_exception=False)
    try:
        return np.asarray(decode_audio(recording, sampling_rate=SAMPLE_RATE_HZ), dtype=np.float32)
    except (av.FFmpegError, IndexError, ValueError) as error:
        what = "There is no audio in this file that can be read."
        raise gr.Error(what, title="No speech in it", print_exception=False) from error


def page(settings: dict[str, Any], base: Transcriber, tuned: Transcriber) -> gr.Blocks:
    """What is seen: speech above, and what each model writes below."""

    def transcribe(recording: str | None) -> Iterator[tuple[str, str]]:
        samples = read(recording)
        yield "…", "…"
        after = tuned(samples)
        yield "…", after
        yield base(samples), after

    rtl = settings["language"] in RIGHT_TO_LEFT
    with gr.Blocks(title=settings["title"], analytics_enabled=False) as blocks:
        gr.Markdown(f"# {settings['title']}")
        speech = gr.Audio(sources=["microphone", "upload"], type="filepath", label="Speech", buttons=["download"])
        button = gr.Button("Transcribe", variant="primary")
        with gr.Row():
            before = gr.Textbox(label=f"Before: {_shown(settings['base'])}", lines=4, rtl=rtl, buttons=["copy"])
            after = gr.Textbox(label=f"After: {_shown(settings['tuned'])}", lines=4, rtl=rtl, buttons=["copy"])
        button.click(transcribe, inputs=speech, outputs=[before, after], api_name="transcribe")
    return blocks


def _shown(name: str) -> str:
    """A name on the hub as it is, and of a folder its last part."""
    return Path(name).name if name.startswith(".") else name


def main() -> None:
    """Load both models and serve the page."""
    settings = json.loads((HERE / "space.json").read_text(encoding="utf-8"))
    names = [settings["base"], settings["tuned"]]
    forms = common(names)
    told = settings["language"], settings["task"]
    base, tuned = (open_model(name, form, *told) for name, form in zip(names, forms, strict=True))
    page(settings, base, tuned).launch(footer_links=["gradio", "settings"])


if __name__ == "__main__":
    main()
