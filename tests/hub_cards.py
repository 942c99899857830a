"""What a model hub says of the head of a card: as the Hugging Face Hub, its licences and the types of its fields.

validated("---\nlicense: mit\n---\n", "model")         # {"errors": [], "warnings": []}
validated("---\nlicense: cc-by4\n---\n", "model")     # Refused: "license" must be one of [apache-2.0, mit, ...]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from tests.hub_store import Refused

LICENCES = re.findall(
    r"\S+",
    "apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m "
    "afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 "
    "cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 "
    "cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 "
    "cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl "
    "gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc lppl-1.3c ms-pl mpl-2.0 odc-by odbl openrail++ osl-3.0 postgresql "
    "ofl-1.1 ncsa unlicense zlib pddl lgpl-lr gemma unknown other",
)
_HEAD = re.compile(r"\s*---[\r\n]+([\S\s]*?)[\r\n]+---(?:[\r\n]|$)")
_LANGUAGE = re.compile(r"[a-z]{2,3}|code|multilingual")
_ID = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[\w.-]+)?")


def validated(content: str, kind: str) -> dict[str, Any]:
    """The answer on a card of a model, dataset or space; one that is not taken is Refused."""
    found = _HEAD.match(content)
    errors = [{"message": each} for each in (_errors(found[1], kind) if found else ())]
    warnings = [] if found else [{"message": "empty or missing yaml metadata"}]
    if errors:
        raise Refused(400, "", "Invalid metadata in README.md", errors=errors, warnings=warnings)
    return {"errors": errors, "warnings": warnings}


def _errors(written: str, kind: str) -> list[str]:
    head = yaml.safe_load(written) or {}
    if not isinstance(head, dict):
        return ["the metadata must be an object"]
    checks = _SPACE if kind == "space" else _MODEL
    return [f'"{name}" {told}' for name, (right, told) in checks.items() if name in head and not right(head[name])]


def _text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _each(right: Callable[[Any], Any]) -> Callable[[Any], bool]:
    """One such value, or a list of them."""
    return lambda value: all(map(right, value if isinstance(value, list) else [value]))


def _like(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: _text(value) and pattern.fullmatch(value) is not None


def _results(value: Any) -> bool:
    """Of a model-index: whose they are, of what task, on what data, and numbers."""
    if not isinstance(value, list):
        return False
    results = [result for model in value if _text(model.get("name")) for result in model["results"]]
    return bool(results) and all(map(_result, results))


def _result(value: Mapping[str, Any]) -> bool:
    task, data, metrics = value.get("task", {}), value.get("dataset", {}), value.get("metrics", [])
    named = _text(task.get("type")) and _text(data.get("type")) and _text(data.get("name"))
    return named and all(_text(each.get("type")) and isinstance(each.get("value"), int | float) for each in metrics)


def _emissions(value: Any) -> bool:
    return isinstance(value.get("emissions") if isinstance(value, dict) else value, int | float)


_Checks = dict[str, tuple[Callable[[Any], bool], str]]
_MODEL: _Checks = {
    "license": (_each(LICENCES.__contains__), f"must be one of [{', '.join(LICENCES)}]"),
    "language": (_each(_like(_LANGUAGE)), "is not valid. It must be an ISO 639-1, 639-2 or 639-3 code"),
    "base_model": (_each(_like(_ID)), "is not valid. Use a model id from https://hf.co/models."),
    "base_model_relation": (("adapter", "finetune", "merge", "quantized").__contains__, "is not known"),
    "datasets": (_each(_like(_ID)), "is not valid. Use a dataset id from https://hf.co/datasets."),
    "tags": (lambda value: isinstance(value, list) and all(map(_text, value)), "must be an array of strings"),
    "metrics": (lambda value: isinstance(value, list) and all(map(_text, value)), "must be an array of strings"),
    "library_name": (_text, "must be a string"),
    "pipeline_tag": (_text, "must be a string"),
    "model-index": (_results, "is not valid"),
    "co2_eq_emissions": (_emissions, "must be a number of grams"),
}
_SPACE: _Checks = {
    "title": (_text, "must be a string"),
    "sdk": (("gradio", "docker", "static").__contains__, "must be one of [gradio, docker, static]"),
    "sdk_version": (_text, "must be a string"),
    "app_file": (_text, "must be a string"),
    "models": (lambda value: isinstance(value, list) and all(map(_like(_ID), value)), "must be an array of model ids"),
    "short_description": (lambda value: _text(value) and len(value) <= 60, "must be at most 60 characters long"),
    "license": _MODEL["license"],
}
