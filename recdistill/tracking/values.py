"""What may leave for a tracking server: flat parameters, legal metric names, and no secret."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from enum import Enum
from itertools import pairwise
from pathlib import PurePath
from typing import Any

from pydantic import BaseModel

# The longest value that every MLflow server of the last years stores.
MAX_VALUE = 500
MAX_KEY = 250
REDACTED = "***"

_SECRET_WORDS = frozenset(
    {"password", "passwd", "passphrase", "secret", "secrets", "token", "credential", "credentials", "auth"}
    | {"authorization", "apikey", "accesskey"}
)
_SECRET_PAIRS = frozenset(
    {("api", "key"), ("access", "key"), ("private", "key"), ("secret", "key"), ("signing", "key")}
)
_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^/\s@'\"]*@")
_QUERY = re.compile(
    r"(?P<name>[?&;](?:[\w.-]*(?:token|secret|password|signature|credential|api_?key|access_?key|sig))=)[^&\s'\"#;]+",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\b(?P<kind>Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
_KNOWN_KEYS = re.compile(
    r"\b(?:AKIA[0-9A-Z]{16}|hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,})\b"
)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_ILLEGAL = re.compile(r"[^\w./\- :]", re.ASCII)


def is_secret(key: str) -> bool:
    """Whether a dotted setting's last part names a credential (``hf_token`` does, ``query_tokens`` does not)."""
    words = [word.lower() for word in _WORD.findall(key.rsplit(".", 1)[-1])]
    return bool(_SECRET_WORDS.intersection(words)) or bool(_SECRET_PAIRS.intersection(pairwise(words)))


def redact(text: str) -> str:
    """``text`` with the credentials taken out of its URIs, headers and well-known key forms."""
    text = _USERINFO.sub(rf"\g<scheme>{REDACTED}@", text)
    text = _QUERY.sub(rf"\g<name>{REDACTED}", text)
    text = _BEARER.sub(rf"\g<kind> {REDACTED}", text)
    return _KNOWN_KEYS.sub(REDACTED, text)


def cut(text: str, limit: int = MAX_VALUE) -> str:
    """``text`` in at most ``limit`` characters; a cut text ends in a digest, so that two long values still differ."""
    if len(text) <= limit:
        return text
    end = f"… ({len(text)} characters, sha256 {hashlib.sha256(text.encode()).hexdigest()[:12]})"
    return text[: limit - len(end)] + end


def flatten(settings: Mapping[str, Any] | BaseModel) -> dict[str, str]:
    """Nested settings as dotted parameters: ``{"a": {"b": 1}}`` → ``{"a.b": "1"}``.

    Keys that name a credential are left out, credentials inside values are replaced, long values are cut.
    A list of scalars is one value; a list of mappings is numbered (``external.0.path``).
    """
    plain = settings.model_dump() if isinstance(settings, BaseModel) else settings
    flat: dict[str, str] = {}
    _walk(plain, "", flat)
    return flat


def metric_key(name: str) -> str:
    """The name under which MLflow accepts a metric: ``recall@10`` → ``recall_at_10``, ``a+b`` → ``a_plus_b``."""
    name = name.replace("@", "_at_").replace("+", "_plus_")
    name = _ILLEGAL.sub("_", name)
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    return "/".join(parts)[:MAX_KEY] or "unnamed"


def _walk(value: Any, key: str, flat: dict[str, str]) -> None:
    if key and is_secret(key):
        return
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, Mapping):
        if not value and key:
            flat[_param_key(key)] = "{}"
        for name, part in value.items():
            _walk(part, f"{key}.{name}" if key else str(name), flat)
    elif (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and any(isinstance(v, Mapping | BaseModel) for v in value)
    ):
        for number, part in enumerate(value):
            _walk(part, f"{key}.{number}", flat)
    else:
        flat[_param_key(key)] = cut(redact(_text(value)))


def _param_key(key: str) -> str:
    return _ILLEGAL.sub("_", key)[:MAX_KEY]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, set | frozenset):
        value = sorted(value, key=str)
    if isinstance(value, Sequence):
        return json.dumps([part if isinstance(part, bool | int | float | str | None) else str(part) for part in value])
    return str(value)
