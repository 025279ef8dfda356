"""Every line of docs/security.md has a test, and says where the check is."""

import re

from toys import ROOT

LINE = re.compile(r"\| `([\w/]+\.py)::(test_\w+)` \|$")
SOURCES = [ROOT / "src/tunetrail", ROOT / "src/hydra_plugins/optuna_study"]


def test_each_line_of_the_page_on_security_has_a_test() -> None:
    page = (ROOT / "docs/security.md").read_text("utf-8")
    _, _, rest = page.partition("## What is checked, and where")
    rows = [line for line in rest.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    assert len(rows) > 20
    for row in rows[1:]:
        found = LINE.search(row)
        assert found, row
        assert f"def {found[2]}(" in (ROOT / "tests" / found[1]).read_text("utf-8"), row
        places = re.findall(r"`([\w/]+(?:\.py|/))`", row.split(" | ")[2])
        assert places, row
        for place in places:
            assert any((folder / place).exists() for folder in SOURCES), row
