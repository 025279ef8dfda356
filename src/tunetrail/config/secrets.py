"""Keep secrets out of all that is written: passwords, tokens, keys, environment variables.

Runs, studies, Hydra's files and logs all go through :func:`redact`. It recognises a secret by its
shape, by its key, or as the value of an environment variable with the name of a secret. This
module is imported at start-up, so it uses the standard library alone.
"""

import json
import logging
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import quote

from tunetrail.config.environment import read_environment
from tunetrail.errors import printable

HIDDEN = "***"

_Value = TypeVar("_Value")

# A shorter value of a variable is found in too many texts by chance. One with letters and digits is
# not.
_MIN_LENGTH = 8
_MIXED = re.compile(r"(?=.*[A-Za-z])(?=.*\d).{6,}", re.DOTALL)

# Anywhere in a name whose words are joined.
_NAMES = re.compile(
    r"passw(?:or)?d|passphrase|passcode|secret|credential|oauth|authorization|"
    r"(?:api|access|private|signing|encryption|account|master|deploy|ssh|subscription|shared|"
    r"consumer|hmac)key|(?:api|access|refresh|bearer|hub|bot)tokens?$"
)
# The last word of a name.
_LAST_WORDS = frozenset(("pass", "pwd", "pw", "cookie", "cookies", "jwt", "otp", "totp"))
# Names that hold "pass" or "pwd" in another sense: DBPASS is a secret, PWD is the current folder.
_OTHER_WORDS = re.compile(
    r"(?:by|com|encom|sur|tres|over|under|multi|low|high|band|all|old)pass|oldpwd"
)
_OTHER_PASSES = frozenset((
    "first", "second", "third", "next", "last", "final", "forward", "backward", "one", "two",
    "single", "multi", "per", "by", "low", "high", "band", "all", "must", "did", "should", "num",
    "max", "min", "each", "every", "test", "tests",
))  # fmt: skip
# A name that ends in one of these says something about a secret: password_file, auth_method.
_ABOUT_SECRETS = frozenset((
    "path", "file", "dir", "folder", "name", "names", "type", "types", "method", "provider",
    "mode", "timeout", "length", "count", "num", "size", "limit", "policy", "required", "enabled",
    "retries", "sock", "index",
))  # fmt: skip
# Words before "token" that make it a token of a text.
_TEXT_TOKENS = frozenset((
    "pad", "eos", "bos", "unk", "sep", "cls", "mask", "special", "image", "video", "audio",
    "start", "end", "stop", "begin", "boi", "eoi", "forced", "suppress", "per", "by", "first",
    "last", "next", "new", "sub", "word", "max", "min", "num", "each", "every",
))  # fmt: skip
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

# Values that reveal nothing: unset, or hidden already.
_EMPTY = re.compile(r"(?i:null|none|true|false|~|)|\*{3,}|\$\{(?:oc\.env:)?[\w.]+\}")

# user:password@ in a URL. SQLAlchemy accepts "/" in a password, and a person may have left an "@"
# unquoted. A port is no password.
_IN_URL = re.compile(
    r"(?<=://)(?:[^\s:/@\"'<>]*+:(?!\d+(?:[/?#,\s]|$))[^\s\"'<>]{0,2000}|[^\s:/@\"'<>?#]++)@"
)
_QUERY = re.compile(r"(?i)([?&](?:key|sig|signature|x-amz-[a-z-]+)=)[^&\s\"'#<>]+")
_WEBHOOK = re.compile(
    r"(?<=://hooks\.slack\.com/services/)[\w/]{20,}"
    r"|(?<=/api/webhooks/)\d+/[\w-]{20,}|(?<=\.webhook\.office\.com/)\S{20,}"
)
_BEARER = re.compile(
    r"(?i)\b(bearer\s+|authorization[\"']?\s*[:=]\s*[\"']?\w+\s+)(?=\S*\d)[\w.~+/=-]{8,}"
)
# Secrets that begin with the mark of who has issued them; most are followed by random letters.
_SHAPES = re.compile(
    r"""
      (?<![A-Za-z0-9])(?:
        hf_[A-Za-z0-9]{16,}                          # Hugging Face
      | gh[pousr]_[A-Za-z0-9]{16,} | github_pat_\w{16,}
      | gl(?:pat|rt|dt|ptt|soat|cbt)-[\w-]{16,}      # GitLab
      | sk-(?=[\w-]{0,60}\d)[\w-]{16,}               # OpenAI, Anthropic and others
      | (?:gsk|r8|fw|sk|pcsk|jina|wandb_v1)_(?=\w{0,60}\d)\w{24,}   # Groq, Replicate and others
      | (?:xai|pplx|nvapi|tvly)-(?=[\w-]{0,60}\d)[\w-]{24,}        # xAI, Perplexity, NVIDIA, Tavily
      | lsv2_[ps][tk]_\w{32,}                        # LangSmith
      | A(?:KIA|SIA|BIA|CCA)[0-9A-Z]{16}             # AWS
      | xox[a-z]-[\w-]{10,} | xapp-[\w-]{10,}        # Slack
      | AIza[\w-]{30,} | ya29\.[\w-]{16,} | GOCSPX-[\w-]{20,} | 1//0[\w-]{30,}   # Google
      | [\w~.-]{3}[78]Q~[\w~.-]{31,34}               # Microsoft Entra
      | npm_[A-Za-z0-9]{30,} | pypi-[\w-]{40,} | rubygems_[0-9a-f]{40,} | dckr_[op]at_[\w-]{20,}
      | dapi[0-9a-f]{32} | do[opr]_v1_[0-9a-f]{40,}  # Databricks, DigitalOcean
      | gl(?:sa|c)_[\w=+/]{20,} | sntry[su]_[\w=+/-]{20,} | NRAK-[A-Z0-9]{20,}    # telemetry
      | figd_[\w-]{20,} | lin_api_\w{20,} | ntn_\w{20,} | ATATT3[\w=-]{20,}      # offices
      | hv[bsr]\.[\w-]{20,} | \w{14}\.atlasv1\.[\w-]{20,} | dp\.[a-z]{2,5}\.\w{30,}   # vaults
      | sbp_[0-9a-f]{40} | pscale_\w+?_[\w.-]{30,} | PMAK-[0-9a-f]{24}-[0-9a-f]{34}
      | shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32} | sq0[a-z]{3}-[\w-]{22,}   # Shopify, Square
      | [srp]k_(?:live|test)_[A-Za-z0-9]{16,} | whsec_[\w+/=]{24,}    # Stripe
      | SG\.[\w-]{16,}\.[\w-]{16,}                   # SendGrid
      | \d{8,10}:AA[\w-]{33} | [MNO][\w-]{23,27}\.[\w-]{6}\.[\w-]{27,}   # Telegram, Discord
      | eyJ[\w-]{8,999}\.(?:eyJ[\w-]{8,9999}\.[\w-]*|[\w-]*(?:\.[\w-]+){3})   # JSON Web Tokens
      | AGE-SECRET-KEY-1[0-9A-Z]{58}
      )
    | -{4,5}\ ?BEGIN\ [A-Z0-9 ]*PRIVATE\ KEY(?:\ BLOCK)?\ ?-{4,5}
      .*?(?:-{4,5}\ ?END\ [A-Z0-9 ]*PRIVATE\ KEY(?:\ BLOCK)?\ ?-{4,5}|\Z)
    | ^Private-Lines:.*?(?:^Private-MAC:|\Z)         # PuTTY
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
# name=value or name: value; says_secret decides about the name.
_ASSIGNED = re.compile(
    r"""
    (?<![\w.])
    (?P<name>[\w.~+/@-]{0,80}?
      (?:pass|pwd|pw|secret|credential|auth|token|key|cookie|jwt|otp)[\w-]{0,40})
    (?P<between>["']?\s*[=:]\s*)
    (?P<value>"(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' | \$\{[^}]*\} | (?:\\.|[^\s,;&'"(){}\[\]\\])+)
    """,
    re.VERBOSE | re.IGNORECASE,
)

# Values to hide, longest first, each with what replaces it. Reading the environment takes longer
# than to hide them in a text: it is read once for a whole mapping.
_Known = list[tuple[str, str]]

# Variables that a config has read, whatever their names; see hide_variables.
_read: set[str] = set()


def redact(value: _Value) -> _Value:
    """Return a text, or a mapping or list of texts, without its secrets.

    In a mapping, every value under the key of a secret is hidden, whatever it looks like.
    """
    return _redact(value, _known_values(), hide=False)  # type: ignore[no-any-return] # the same type is returned


def _redact(value: Any, known: _Known, *, hide: bool) -> Any:
    if isinstance(value, dict):
        return {
            _hide(name, known) if isinstance(name, str) else name: _redact(
                item, known, hide=hide or says_secret(str(name))
            )
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return type(value)(_redact(item, known, hide=hide) for item in value)
    if hide and value is not None and not isinstance(value, bool):
        return value if _EMPTY.fullmatch(str(value)) else HIDDEN
    return _ASSIGNED.sub(_hide_assigned, _hide(value, known)) if isinstance(value, str) else value


def says_secret(name: str) -> bool:
    """Whether a key or variable has the name of a secret: ``hub_token``, but not ``pad_token``."""
    words = _words(name)
    if not words or (name.isupper() and words in (("pwd",), ("oldpwd",))):
        return False
    last, before = words[-1], words[-2:-1]
    if before and last in _ABOUT_SECRETS:
        return False
    if _NAMES.search("".join(words)) or "auth" in words:
        return True
    if last in ("token", "pat"):
        return not _TEXT_TOKENS.intersection(before) and (last == "token" or bool(before))
    if last.endswith(("pass", "pwd")) and not _OTHER_WORDS.fullmatch(last):
        return not _OTHER_PASSES.intersection(before)
    return last in _LAST_WORDS


def hide_variables(names: Iterable[str]) -> None:
    """Replace the values of these environment variables by ``${oc.env:NAME}`` from now on.

    Call it for the variables that a config reads: paths and messages are built from their values.
    """
    _read.update(names)


class RedactingFormatter(logging.Formatter):
    """Formats a record and its traceback without secrets, and for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(redact(super().format(record)))


def redact_shapes(text: str) -> str:
    return _hide(text, _known_values())


def _hide(text: str, known: _Known) -> str:
    for secret, instead in known:
        text = text.replace(secret, instead)
    text = _IN_URL.sub(f"{HIDDEN}@", text)
    text = _WEBHOOK.sub(HIDDEN, text)
    text = _QUERY.sub(rf"\g<1>{HIDDEN}", text)
    text = _BEARER.sub(rf"\g<1>{HIDDEN}", text)
    return _SHAPES.sub(HIDDEN, text)


def _hide_assigned(found: re.Match[str]) -> str:
    name, between, value = found["name"], found["between"], found["value"]
    bare = value.strip("\"'")
    # "the token: x" is prose about texts, and "data.train=/etc/passwd: no such file" about a file.
    before = found.string[: found.start()][-2:]
    is_prose = ":" in between and (
        "/" in name
        or before.endswith("=")
        or (name.islower() and len(bare) < _MIN_LENGTH and re.fullmatch(r"[a-z] ", before))
    )
    is_scheme = bare.lower() in ("basic", "bearer", "digest")  # the secret comes after it
    if is_prose or is_scheme or _EMPTY.fullmatch(bare) or HIDDEN in bare or not says_secret(name):
        return found[0]
    # The quotes stay, so that JSON stays JSON.
    mark = value[0] if value[0] in "\"'" else ""
    return f"{name}{between}{mark}{HIDDEN}{mark}"


def _known_values() -> _Known:
    """List the values of variables that must be hidden, longest first, with what replaces them."""
    known: dict[str, str] = {}
    for name, value in read_environment().items():
        long = len(value) >= _MIN_LENGTH
        if _is_secret_variable(name) and (long or _MIXED.fullmatch(value)):
            instead = HIDDEN
        elif long and name in _read:
            instead = f"${{oc.env:{name}}}"
        else:
            continue
        # As it is, as in a URL, and as in JSON.
        for spelled in (value, quote(value, safe=""), json.dumps(value)[1:-1]):
            known.setdefault(spelled, instead)
    return sorted(known.items(), key=lambda item: -len(item[0]))


@lru_cache(maxsize=1024)
def _is_secret_variable(name: str) -> bool:
    return says_secret(name) or "token" in _words(name)


def _words(name: str) -> tuple[str, ...]:
    """Split the last part of a dotted key into words: ``trainer.hub_token`` gives hub, token."""
    last = re.split(r"[./:@]", name)[-1]
    return tuple(word.lower() for word in _WORDS.findall(last))
