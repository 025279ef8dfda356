"""What is hidden, and what is left alone."""

import logging

import pytest

from tunetrail.config import secrets
from tunetrail.config.secrets import RedactingFormatter, redact, says_secret

# Made up here; put together so that no scanner takes this file for a leak.
HF = "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYz012345"
JWT = "eyJ" + "hbGciOiJIUzI1NiJ9.eyJ" + "zdWIiOiIxMjM0NSJ9.c2lnbmF0dXJl"
PEM = "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\nabc\n-----END RSA PRIVATE KEY-----"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_read", set())


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("postgresql://me:hunter2@db:5432/runs", "postgresql://***@db:5432/runs"),
        ("postgresql+psycopg2://me:pa/ss@db/runs", "postgresql+psycopg2://***@db/runs"),
        ("mysql://me:p@ss:word@db/runs", "mysql://***@db/runs"),
        ("https://hunter2@host/api", "https://***@host/api"),
        ("redis://:hunter2@host", "redis://***@host"),
        ("a postgresql://u:p@h/d and http://h:5000/x", "a postgresql://***@h/d and http://h:5000/x"),
        ("https://h/x?access_token=hunter2&b=1", "https://h/x?access_token=***&b=1"),
        ("https://h/x?X-Amz-Signature=0af1&b=1", "https://h/x?X-Amz-Signature=***&b=1"),
        ("https://h/x?sig=0af1", "https://h/x?sig=***"),
        (f"+note={HF}", "+note=***"),
        (f"Invalid token {HF}.", "Invalid token ***."),
        ("ghp_" + "a1B2" * 9, "***"),
        ("github_pat_" + "a1B2_" * 9, "***"),
        ("glpat-" + "a1B2-" * 5, "***"),
        ("sk-proj-" + "a1B2_" * 5, "***"),
        ("AKIA" + "A1B2" * 4, "***"),
        ("xoxb-" + "1234-abcd-5678", "***"),
        (f"cookie {JWT}", "cookie ***"),
        (f"key:\n{PEM}\nend", "key:\n***\nend"),
        ("Authorization: Bearer " + "abcdef0123456789", "Authorization: Bearer ***"),
        ("trainer.hub_token=abc", "trainer.hub_token=***"),
        ("SMTP_PASS=abc MYSQL_PWD=abc", "SMTP_PASS=*** MYSQL_PWD=***"),
        ("+login={user: me, pass: abc}", "+login={user: me, pass: ***}"),
        ("Cookie: session0123", "Cookie: ***"),
        ("Server=h;Uid=me;Pwd=abc;", "Server=h;Uid=me;Pwd=***;"),
        ("sk_live_" + "4eC39HqLyjWDarjtT1zd", "***"),
        ("https://hooks.slack.com/services/T0/B0/" + "a1B2c3" * 4, "https://hooks.slack.com/services/***"),
        ("++a.password='x, y',b=1", "++a.password='***',b=1"),
        ("a=1,b.api_key=x\\,y,c=2", "a=1,b.api_key=***,c=2"),
        ("+login={user: me, password: abc}", "+login={user: me, password: ***}"),
        ('{"client_secret": "abc", "n": 1}', '{"client_secret": "***", "n": 1}'),
        ("  hub_token: abc\n  seed: 1", "  hub_token: ***\n  seed: 1"),
    ],
)  # fmt: skip
def test_secrets_are_hidden_and_the_rest_stays(text: str, hidden: str) -> None:
    assert redact(text) == hidden
    # what is hidden stays as it is
    assert redact(hidden) == hidden


# Letters and digits as issued; no sign that an editor or a scanner would look for.
R = "a1B2c3D4e5" * 9
HEX = "0a1b2c3d4e5f" * 6


@pytest.mark.parametrize(
    "secret",
    [
        "-----BEGIN PGP " + "PRIVATE KEY BLOCK-----\n\nabc\n-----END PGP PRIVATE KEY BLOCK-----",
        "-----BEGIN OPENSSH " + "PRIVATE KEY-----\nabc\n",
        "---- BEGIN SSH2 ENCRYPTED " + "PRIVATE KEY ----\nabc",
        "Private-Lines: 8\nabc\nabc\n",
        "AGE-SECRET-KEY-1" + "Q2W3" * 14 + "ER",
        "eyJ" + R[:20] + ".." + R[:16] + "." + R[:30] + "." + R[:22],
        *(mark + R[:40] for mark in (
            "gsk_", "r8_", "fw_", "sk_", "pcsk_", "jina_", "wandb_v1_", "xai-", "pplx-", "nvapi-",
            "tvly-", "glrt-", "gldt-", "GOCSPX-", "1//0", "dckr_pat_", "glsa_", "glc_", "sntrys_",
            "figd_", "lin_api_", "ntn_", "ATATT3", "hvs.", "dp.pt.", "pscale_tkn_", "sq0csp-",
            "whsec_", "ghs_",
        )),
        *(mark + HEX[:40] for mark in ("rubygems_", "doo_v1_", "sbp_", "sk-or-v1-", "lsv2_pt_")),
        "shpat_" + HEX[:32], "PMAK-" + HEX[:24] + "-" + HEX[:34], "abc8Q~" + R[:34],
        R[:14] + ".atlasv1." + R[:60], "1234567890:AA" + R[:33], "NRAK-" + R[:27].upper(),
        "M" + R[:23] + "." + R[:6] + "." + R[:27], "ABIA" + R[:16].upper(),
        "https://discord.com/api/webhooks/12345678/" + R[:60],
        "https://x.webhook.office.com/webhookb2/" + R[:60],
    ],
)  # fmt: skip
def test_secrets_are_known_by_their_form_without_a_name(secret: str) -> None:
    shown = redact(f"a {secret}" if "Private-Lines" not in secret else f"a\n{secret}")
    assert "***" in shown
    assert R[:16] not in shown
    assert HEX[:16] not in shown
    assert "abc" not in shown


@pytest.mark.parametrize(
    "text",
    [
        "trainer.learning_rate=3e-4",
        "task-sk-learn-with-many-words-and-no-number, r8_ fw_ sk_learn_model_selection_split",
        "-----BEGIN PUBLIC KEY-----\nabc\n-----END PUBLIC KEY-----, a PRIVATE KEY",
        "https://h/api/webhooks/12, 2026-11-26 20:15:38, 12345678:AA",
        "trainer.learning_rate=tag(log,interval(1e-5,1e-3))",
        "model.source.path=sentence-transformers/all-MiniLM-L6-v2",
        "sqlite:////home/me/mlruns/mlflow.db",
        "sqlite:///mlruns/optuna.db",
        "file:///home/me/mlruns/artifacts/0a1b2c/artifacts",
        "http://127.0.0.1:5000/#/models/name@champion",
        "http://localhost:5000,b@c",
        "models:/tunetrail-tweets@champion",
        "git@github.com:owner/name.git",
        "mail to someone@example.org",
        "pad_token: <pad>\neos_token=<|endoftext|>\nmax_new_tokens: 20\nnum_tokens=1234567890",
        "token_type_ids=1, tokenizer=AutoTokenizer, seed_key: training_seed, keys: [a, b]",
        "the token: end",
        "hub_token=null hub_token: ${oc.env:HF_TOKEN} use_auth_token=false",
        "author: me, authors=them",
        "0d1e4f1a9c5b7d3e8f6a2b4c0d1e4f1a9c5b7d3e8f6a2b4c0d1e4f1a9c5b7d3e",
        "task-specific-head-for-20-labels, hf_internal_testing_tiny_model",
        "error: data.train=/etc/passwd: no such file",
        "data.train=/etc/passwd",
        "data.train='/etc/passwd': no such file",
        "data.validation=my-passwords: no such file",
        "model.path=/models/token: has no config.json",
        "data.columns={tokens: token, tags: tag}",
        "task.max_tokens=5 task.max_new_tokens=20 tokenizer=word",
        "the first pass: 3 rows, the second pass: none",
        "use HTTP bearer authorization for remote files",
        "PWD=/home/me OLDPWD=/home",
        "accuracy 0.749 on validation (gap +0.171, noise ±0.042)",
        "",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert redact(text) == text


def test_secret_variables_are_hidden_wherever_their_values_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGPASSWORD", 'cor"rect horse')
    monkeypatch.setenv("GITHUB_TOKEN_OF_CI", "abcdefgh")
    monkeypatch.setenv("MY_AUTH", "short")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "falsefalse")
    assert redact('could not log in with cor"rect horse') == "could not log in with ***"
    assert redact("https://h/cor%22rect%20horse") == "https://h/***"
    assert redact('{"a": "cor\\"rect horse"}') == '{"a": "***"}'
    assert redact("x-abcdefgh-y") == "x-***-y"
    assert redact("short falsefalse") == "short falsefalse"


def test_a_variable_that_the_config_has_read_is_shown_by_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATA_DIR", "/somewhere/else")
    assert redact("no file /somewhere/else/x") == "no file /somewhere/else/x"
    secrets.hide_variables(["DATA_DIR", "NOT_SET"])
    assert redact("no file /somewhere/else/x") == "no file ${oc.env:DATA_DIR}/x"


def test_a_config_is_hidden_by_its_keys() -> None:
    config = {
        "trainer": {"hub_token": "abc", "learning_rate": 1e-4, "seed": 42, "pad_token": "<pad>"},
        "trainer.hub_token": "abc",
        "credentials": {"user": "me", "pins": [1234, "x"]},
        "api_key": None,
        "use_auth_token": True,
        "password": "${oc.env:PASSWORD}",
        "passwd": "${oc.env:PASSWORD,abc}",
        "uri": "http://u:p@h",
    }
    assert redact(config) == {
        "trainer": {"hub_token": "***", "learning_rate": 1e-4, "seed": 42, "pad_token": "<pad>"},
        "trainer.hub_token": "***",
        "credentials": {"user": "***", "pins": ["***", "***"]},
        "api_key": None,
        "use_auth_token": True,
        "password": "${oc.env:PASSWORD}",
        "passwd": "***",
        "uri": "http://***@h",
    }


@pytest.mark.parametrize(
    "name",
    ["HF_TOKEN", "hub_token", "token", "apiKey", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD",
     "x.db_passwd", "GOOGLE_APPLICATION_CREDENTIALS", "BASIC_AUTH", "ssh_private_key",
     "client-secret", "SMTP_PASS", "db_pass", "DBPASS", "pass", "MYSQL_PWD", "pwd", "user_pw",
     "session_cookie", "Set-Cookie", "GITHUB_PAT", "api_tokens", "wandb_master_key", "vpn_otp"],
)  # fmt: skip
def test_names_that_say_secret(name: str) -> None:
    assert says_secret(name)


@pytest.mark.parametrize(
    "name",
    ["pad_token", "eos_token", "max_new_tokens", "num_tokens", "token_type", "author", "seed_key",
     "tokenizer", "GIT_AUTHOR_NAME", "key", "label_column", "PATH", "PWD", "OLDPWD", "max_tokens",
     "task.max_tokens", "tokens", "forward_pass", "num_passes", "bypass", "compass", "passed",
     "password_file", "auth_method", "SSH_AUTH_SOCK", "pat", "path", "passage", "keypad",
     "cookiecutter"],
)  # fmt: skip
def test_names_that_do_not(name: str) -> None:
    assert not says_secret(name)


def test_a_log_record_is_formatted_without_its_secrets() -> None:
    formatter = RedactingFormatter("[%(levelname)s] %(message)s")
    error = ValueError(f"refused {HF}")
    info = (type(error), error, None)
    record = logging.LogRecord("x", logging.INFO, "f", 1, "at %s", ("http://u:p@h",), info)
    text = formatter.format(record)
    assert text.startswith("[INFO] at http://***@h\nValueError: refused ***")
    assert HF not in text


def test_a_long_text_takes_no_time() -> None:
    redact("a" * 1_000_000 + "/b.c" * 100_000 + "key token " * 50_000)
    for part in ("sk-", "-eyJaaaaaaaa", "gsk_", "pscale_a", "-----BEGIN A ", "\nPrivate-Lines:"):
        redact(part * 20_000)
