"""Secrets that are written into files of any kind, and code that holds none."""

import subprocess

import pytest
from toys import ROOT

from tunetrail.tracking.provenance.leaks import holds_secret

# Made up; random letters, and words.
V, W = "zq7Hv2Lw9" + "Xk4", "correct" + "horse"
KEY = "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYEXAMPLEKEY"

PLANTED = {
    "a.yaml": [
        f"password: {V}", f"password: {W}", "password: hunter2", f"db:\n  passwd: {V}",
        f"- token: {V}", f"client_secret: {V} # of prod", f"password: >-\n  {V}",
        f"login: {{user: me, password: {V}}}", f"SMTP_PASS: {W}", f"password: '{W} two words'",
        f"environment:\n  - POSTGRES_PASSWORD={W}", f"- name: DB_PASSWORD\n  value: {V}",
        f"conn: Server=db;Uid=me;Pwd={V};", f"aws_secret_access_key: {KEY}",
        f"Authorization: Token {V}{V}", "cookie: sessionid=38afes7a8", f"PASSWORD: &pw {V}",
    ],
    "a.ini": [f"[db]\npassword = {V}", f"pass={W}", f"secret_key = {V}", f"[s]\npwd: {V}"],
    "a.toml": [f"api_key = '{V}'", f"dsn = 'redis://:{V}@h:6379/0'", 'password = "abc123"'],
    "a.sh": [
        f"export API_TOKEN={V}", f"DB_PASS={W} ./run", f"curl -u me:{V} https://h",
        f"curl -ume:{W} https://h", f"curl -H 'X-Api-Key: {V}' h", f"docker login -u me -p {V} h",
        f"mysql -u root -p{V} db", f"sshpass -p {V} ssh h", f"mycli --token {V}", f"zip -P {V} x",
        f'echo "machine h login me password {V}" > ~/.netrc', f"redis-cli -a {V}",
        f"openssl rsa -passin pass:{W}", f"curl -b 'session={V}' h", f"ftp://me:{V}@h",
        f"MLFLOW_TRACKING_PASSWORD={W} python train.py",
        f"echo {V} | docker login --password-stdin",
    ],
    "Dockerfile": [f"ENV API_TOKEN={V}", f"ENV API_TOKEN {V}", f"ARG DB_PASSWORD={W}"],
    "Makefile": [f"TOKEN := {V}", f"\tHF_TOKEN={V} python x.py"],
    "a.py": [
        f"# gsk_{V}{V}{V}",
        f"# password: {V}", f"# the password is {V}", f'PASSWORD = "{W}"', f"f(password='{W}')",
        f"os.environ['API_KEY'] = '{V}'", f'os.environ.setdefault("DB_PASS", "{V}")',
        f"get(u, auth=('me', '{V}'))", f"add('--token', default='{V}')", f"x = '{KEY}'",
        f"dsn = 'host=db password={V}'", f"if password == '{V}':", f"TOKEN: str = '{V}'",
        f"key = os.getenv('API_KEY', '{V}')", f"passwd = b'{V}'", f"password = (\n    '{W}'\n)",
    ],
    "a.json": [f'{{"password": "{W}"}}', f'{{"name": "TOKEN", "value": "{V}"}}',
               '{"pin_password": 12345678}'],
    "a.ipynb": [f'"    \\"password\\": \\"{V}\\",\\n"', f'"!hf auth login --token {V}\\n"'],
    "a.md": [f"- Password: `{V}`", f"    export TOKEN={V}", f"| token | {V} |", f"password: {W}"],
    "a.js": [f'const token = "{V}"', f"process.env.API_KEY = '{V}'"],
    "a.c": [f'#define PASSWORD "{V}"', f'strcpy(password, "{V}");'],
    "a.sql": [f"CREATE USER me WITH PASSWORD '{W}';", f"IDENTIFIED BY '{V}'"],
    "a.html": [f'<input name="token" value="{V}">', f"<password>{V}</password>"],
}  # fmt: skip


@pytest.mark.parametrize("path", PLANTED)
def test_secrets_in_files_of_every_kind(path: str) -> None:
    assert [text for text in PLANTED[path] if not holds_secret(path, text)] == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a.py", "token = tokenizer.pad_token"),
        ("a.py", "def login(password: str, *, api_key: str | None = None) -> None: ..."),
        ("a.py", 'password = getpass("Password: ")'),
        ("a.py", 'token = os.environ["HF_TOKEN"]'),
        ("a.py", 'parser.add_argument("--password", help="of the server")'),
        ("a.py", 'API_KEY_VARIABLE = "OPENAI_API_KEY"'),
        ("a.py", 'image_break_token="[IMG_BREAK]"'),
        ("a.py", "# the token: where it ends"),
        ("a.py", "self.passes = num_passes; forward_pass='slowest2run3'"),
        ("a.py", "url = f'postgresql://{user}:{password}@{host}/db'"),
        ("a.sh", "git clone https://$TOKEN@host/x; psql postgresql://me:${PGPASSWORD}@h/d"),
        ("a.yaml", "hub_token: ${oc.env:HF_TOKEN}"),
        ("a.yaml", "password: ${{ secrets.PASSWORD }}\ntoken: null\nauth: basic"),
        ("a.yaml", "password_file: /run/secrets/database"),
        ("a.yaml", "max_new_tokens: 512\nseed_key: training_seed\ntokenizer: bert-base-v2"),
        ("a.sh", 'export TOKEN="$HF_TOKEN"; curl -u "$NAME:$PASSWORD" https://h'),
        ("a.md", "Set `hub_token=YOUR_TOKEN`. The password is asked for."),
        ("requirements.lock", "google-auth==2.62.2"),
    ],
)
def test_what_is_no_secret(path: str, text: str) -> None:
    assert not holds_secret(path, text)


def test_no_file_of_this_project_is_left_out() -> None:
    """But for the patterns that find secrets."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "src", "conf", "train.py", ":*.toml", ":*.lock"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=30,
    )
    paths = [name.decode() for name in listed.stdout.split(b"\0") if name]
    found = [path for path in paths if holds_secret(path, (ROOT / path).read_text("utf-8"))]
    assert found == [
        "src/hydra_plugins/optuna_study/_functions.py",
        "src/tunetrail/config/secrets.py",
        "src/tunetrail/tracking/provenance/leaks.py",
    ]


def test_a_long_text_takes_no_time() -> None:
    for text in ("token: " * 9000, "curl -u " * 9000, "://" * 2000, "-" * 90000, 'key="a" ' * 9000):
        holds_secret("a.yaml", text)
