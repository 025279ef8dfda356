"""The browser of the person at this machine."""

import os
import sys
import webbrowser

# Without a display the only browsers are those that take over the terminal.
_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")


def open_browser(address: str) -> None:
    """Open a page in a browser, where there is a display."""
    if sys.platform != "linux" or any(os.environ.get(name) for name in _DISPLAYS):
        webbrowser.open(address)
