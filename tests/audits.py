"""What must not be in a page: scripts, whatever leads out of it, tags that do not close."""

from html.parser import HTMLParser


class Audit(HTMLParser):
    """Everything in a page that could do something or lead out of it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.open: list[str] = []
        self.headings: list[str] = []
        self.text = ""
        self.styles: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attrs}
        if tag in {"script", "iframe", "object", "embed", "link", "base", "form", "svg", "video"}:
            self.faults.append(tag)
        for name, value in known.items():
            outside = name in ("href", "src", "srcset", "action", "background", "poster")
            if outside and not value.startswith(("#part-", "data:image/png;base64,")):
                self.faults.append(f"{tag} {name}={value[:40]}")
            if name.startswith("on") or name == "style":
                self.faults.append(f"{tag} {name}")
        policy = "Content-Security-Policy"
        if tag == "meta" and known.get("http-equiv", policy) != policy:
            self.faults.append("meta")
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            self.styles.append(data)
            return
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        self.text += data


def audit(page: str) -> Audit:
    found = Audit(page)
    assert found.faults == []
    assert found.open == []
    assert "default-src 'none'" in page
    assert not any(word in style for style in found.styles for word in ("url(", "@import"))
    assert "\u202e" not in page
    page.encode()
    return found
