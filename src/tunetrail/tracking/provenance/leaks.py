"""Recognise secrets that somebody has written into a file of any kind.

A change that holds one is left out of the recorded patch. To miss one is worse than to leave out a
harmless file, so this is stricter than :func:`tunetrail.config.secrets.redact`, which must not
damage texts. In source code only what is written out counts: ``token = tokenizer.pad_token`` is no
secret.
"""

import re
from pathlib import PurePosixPath

from tunetrail.config.secrets import redact_shapes, says_secret

# In these languages a value without quotes is an expression.
_CODE = frozenset((
    ".py", ".pyi", ".pyx", ".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".hpp", ".rs", ".go", ".js",
    ".ts", ".sql", ".proto", ".jinja", ".j2", ".html", ".css", ".ipynb", ".cmake",
))  # fmt: skip
# Here a name and a colon are often a sentence.
_PROSE = frozenset((".md", ".rst"))

_NAME = re.compile(r"(?<![\w$.-])[\w$.-]++(?<=\w)")
_HINT = re.compile(r"(?i)pass|pwd|pw|secret|credential|auth|token|key|cookie|jwt|otp|pat$")
# From a name to its value: TOKEN: str = '…', env["TOKEN"] = (\n '…', password: >-\n …
_ASSIGNS = re.compile(
    r"""(?x)
    ["'\])`*]{0,3} (?:[ \t]*\[\])? [ \t]*
    (?: :[ \t]*[A-Za-z_][\w\[\]., |]{0,60}?[ \t]*(?==[^=]) )?
    (?: :=|\?=|\+=|==|=>|=|: )
    [ \t]* (?: \(\s* | [>|][+-]?[ \t]*\n[ \t]+ )?
    """
)
_QUOTED = re.compile(r"[rbfuRBFU]{0,2}(\"\"\"|'''|[\"'`])((?:(?!\1)[^\n]){1,400})\1")
_BARE = re.compile(r"[^\s,;\"'(){}\[\]<>|`]{1,400}")
# Between a name and a value without an assignment: --token X, ENV TOKEN X, ("TOKEN", "X"),
# <password>X, | token | X |, password is X, and in YAML a name with its value below.
_APART = re.compile(
    r"[\"'`*)\]]{0,3}(?:[ \t]+is)?"
    r"(?:[ \t]*(?:[,|>]|<<<)[ \t]*|[ \t]+|[ \t]*\n[ \t]*(?:value:[ \t]*)?)[\"'`]?"
)

_REFERENCE = re.compile(
    r"""(?xi)
    .*[$<{%*].* | !\w.* | \[.* | (?:~|\.{0,2})(?:/[\w.-]+){2,}
    | [\w.]*(?:environ|getenv|getpass)\b.*
    | (?:your|my|the|some|a|an|test|fake|dummy|example|sample|no|invalid|wrong)(?:[-_ .].*)?
    | null|none|true|false|yes|no|on|off|(?:[\w-]*-)?x{3,}|\.{3,}
    | changeme|change[-_]me|placeholder|redacted
    | (?:hub_|api_|access_)?(?:token|password|passwd|secret|key|credentials?)s?
    | required|optional|inherit|string|bytes|unset|empty|todo|prompt|basic|bearer|digest
    """
)
# In code also the name of something.
_IDENTIFIER = re.compile(r"[A-Za-z]+(?:[_.][A-Za-z]+)+")
# A line such as "- Password: `…`".
_ITEM = re.compile(r"[\s>*`\"-]*")
# What command lines hand over beside a name.
_COMMANDS = re.compile(
    r"""(?x)
    \b(?:curl|http|https|wget)\b[^\n]{0,200}?\s(?:-u|--user|-U|--proxy-user|-a|--auth)[ =]?
      ["']?[^\s:"'$<]+:(?!//)[^\s"'$<{]{3,}
    | \bzip\b[^\n]{0,200}?\s-P\s*[^\s$"'<-][^\s"'<]{2,}
    | \bsshpass\s+-p\s*["']?[^\s$"'<]{3,}
    | \b(?:docker|podman|helm|az|oc)\b[^\n]{0,200}?\slogin\b[^\n]{0,200}?\s-p[ =]?
      ["']?[^\s$"'<-][^\s"'<]{2,}
    | \b(?:mysql\w*|mariadb\w*)\b[^\n]{0,200}?\s-p[^\s$"'<=]{3,}
    | \b(?:mongo\w*|psql|sqlplus)\b[^\n]{0,200}?\s-p[ ][^\s$"'<-][^\s"'<]{2,}
    | \b(?:redis-cli\b[^\n]{0,200}?\s-a | sqlcmd\b[^\n]{0,200}?\s-P)[ ]["']?[^\s$"'<-][^\s"'<]{2,}
    | \bsmbclient\b[^\n]{0,200}?\s-U\s*["']?\w+%[^\s$"'<]{3,}
    | \s-pass(?:in|out)?\s+pass:[^\s$"'<]{3,}
    | \b(?:wandb|huggingface-cli|hf)\s+(?:auth\s+)?login\s+[\w-]{20,}
    | (?:-b|--cookie)[ =]["']?\w+=[^\s$"'<]{8,}
    | \b(?:PASSWORD|IDENTIFIED\s+(?:WITH\s+\S+\s+)?BY)\s+'[^'%{$<]{4,}'
    | \b(?:echo|printf)\s+["']?(?!-)[^\s$"'<]{6,}["']?\s*\|[^|\n]{0,200}?--password-stdin
    """
)
# postgresql://{user}:{password}@host, https://$TOKEN@host
_FILLED_IN = re.compile(
    r"://(?:[\w.%+-]*|\$?\{[^{}\s]*\}|\$\w+):?(?:\$?\{[^{}\s]*\}|\$\w+|%\(\w+\)s|\*+)@"
)
# 40 characters of base64, as a secret key of AWS: upper and lower case and digits.
_KEY = re.compile(
    r"(?<![\w+/=.-])(?=[A-Za-z0-9+/]*[a-z])(?=[A-Za-z0-9+/]*[A-Z])(?=[A-Za-z0-9+/]*\d)"
    r"[A-Za-z0-9+/]{40}(?![\w+/=.-])"
)
# Characters of a line after a name in which a value is searched.
_REACH = 300
_LONG_WORD = re.compile(r"[A-Za-z][a-z]{7}")
_TURN = re.compile(r"(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])")


def holds_secret(path: str, text: str) -> bool:
    """Whether a text from a file has a secret in it.

    Args:
        path: of the file; how its language writes values.
        text: the file, or lines of it.

    """
    # As in the cells of a notebook.
    text = _FILLED_IN.sub("://", text.replace('\\"', '"').replace("\\n", "\n"))
    if redact_shapes(text) != text or _COMMANDS.search(text):
        return True
    # Names of classes are as long, and have long words.
    if any(not _LONG_WORD.search(found[0]) for found in _KEY.finditer(text)):
        return True
    suffix = PurePosixPath(path).suffix.lower()
    return any(
        _has_value(text, found.start(), found.end(), suffix)
        for found in _NAME.finditer(text)
        if _HINT.search(found[0]) and says_secret(found[0])
    )


def _has_value(text: str, start: int, end: int, suffix: str) -> bool:
    """Whether what follows a name is its secret."""
    is_code, is_prose = suffix in _CODE, suffix in _PROSE
    stop = text.find("\n", end)
    stop = min(len(text) if stop < 0 else stop, end + _REACH)
    assigned = _ASSIGNS.match(text, end)
    if assigned and (quoted := _QUOTED.match(text, assigned.end())):
        if _is_literal(quoted[2], is_code=is_code, spaces=not (is_code or is_prose)):
            return True
    elif assigned and "==" not in assigned[0] and (bare := _BARE.match(text, assigned.end())):
        item = text[text.rfind("\n", 0, start) + 1 : start]
        is_sentence = is_prose and not (_ITEM.fullmatch(item) and bare.end() == stop)
        by_equals = assigned[0].strip() == "="
        if not is_code and (by_equals or not is_sentence):
            if _is_literal(bare[0]):
                return True
        elif _looks_random(bare[0]):
            return True
    # The quote that closes the name opens no value.
    rest = text[end + (text[end : end + 1] in ("'", '"', "`")) : stop]
    if any(_looks_random(quoted[2]) for quoted in _QUOTED.finditer(rest)):
        return True
    apart = _APART.match(text, end)
    bare = _BARE.match(text, apart.end()) if apart else None
    return bare is not None and _looks_random(bare[0].rstrip(".:"))


def _is_literal(value: str, *, is_code: bool = False, spaces: bool = False) -> bool:
    """Whether a value is written out, not a reference to one nor a placeholder."""
    if len(value) < 5 or (not spaces and re.search(r"\s", value)):
        return False
    if is_code and _IDENTIFIER.fullmatch(value):
        return False
    return not _REFERENCE.fullmatch(value.strip())


def _looks_random(value: str) -> bool:
    """Whether letters and digits are mixed as in no word, version or hash's name."""
    if not 8 <= len(value) <= 400 or re.search(r"[\s<>{}$()]", value):
        return False
    parts = re.split(r"[-_./:@=,]", value)
    return any(len(part) >= 6 and len(_TURN.findall(part)) >= 3 for part in parts)
