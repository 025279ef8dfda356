"""The browser of the person at this machine."""

import os
import sys
import webbrowser

# Without a display the only browsers are those that take over the terminal.
_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")


def open_browser(address: str) -> bool:
    """Open a page in a browser, where there is a display; say whether that was tried."""
    if sys.platform == "linux" and not any(os.environ.get(name) for name in _DISPLAYS):
        return False
    return webbrowser.open(address)
