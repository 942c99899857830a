"""The README.md of an export folder: which model it is, whose, in what form, how it was verified, how it is loaded.

text = readme(report, "my-run", origin_of("my-run"))

A publication has none of these: its card says the same of all its forms.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Final

from whispertune.model.formats import adapter, ggml, openai
from whispertune.model.load import RUN_MARK
from whispertune.model.naming import public_name
from whispertune.publish.export import ExportReport
from whispertune.publish.facts import Origin
from whispertune.recipe_file import load_recipe
from whispertune.train.run import Run

LOADED: Final = {  # {file}: of formats that are one file
    "ct2": '`faster_whisper.WhisperModel("this folder")`, in Python',
    "transformers": '`transformers.WhisperForConditionalGeneration.from_pretrained("this folder")`, in Python',
    "openai": '`whisper.load_model("{file}")`, in Python with openai-whisper',
    "ggml": "`whisper-cli -m {file} -nfa`, or in Python with pywhispercpp",
    "onnx": "onnxruntime: `encoder_model.onnx`, `decoder_model.onnx` for a prompt, then `decoder_with_past_model.onnx`",
    "adapter": '`peft.PeftModel.from_pretrained(base_model, "this folder")`, in Python',
}


def origin_of(model: str) -> Origin:
    """The base of a model by name: of a run or an adapter what it was tuned from, else the model itself."""
    path = Path(model).expanduser()
    if (path / RUN_MARK).exists():
        return Origin.of(load_recipe(Run(path).resolved_recipe).model)
    return Origin.of(adapter.base_name(path) if adapter.is_adapter(path) else model)


def readme(report: ExportReport, model: str, base: Origin) -> str:
    """What stands in an export of `model`, whose base model this is."""
    hub = f"https://huggingface.co/{base.hub}" if base.hub else None
    origin = base.name if base.hub == base.name else f"{base.name}, which began as {base.hub}" if hub else base.name
    found = report.comparison
    verified = f"in {report.runtime}: {found.told(report.tolerance)}" if found else "no: not verified (--no-verify)"
    file = {"ggml": ggml.FILES, "openai": dict.fromkeys(("float16", "float32"), openai.FILE)}.get(report.format, {})
    lines = [
        f"# {public_name(model)}",
        "",
        f"- Base model: {origin} ({hub or 'its origin is not known here'})",
        f"- Licence of the base model: {base.licence or 'not known'}",
        f"- Format: {report.format}, {report.quantization}",
        f"- Written by: Whispertune {version('whispertune')}",
        f"- Verified: {verified}",
        f"- Loaded by: {LOADED[report.format].format(file=file.get(report.quantization))}",
    ]
    return "\n".join(lines) + "\n"
