"""git, run in one way whatever the user's settings say."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tunetrail.config.environment import read_environment

# Variables that may stay: the others make git take another repository for this one.
_KEPT = ("GIT_CONFIG", "GIT_CEILING", "GIT_DISCOVERY")
# Paths are shown in ASCII, whatever bytes they are. No hooks: the content of a store that others
# write to must not start a program.
_SETTINGS = ("core.fsmonitor=false", "core.quotePath=true", "core.hooksPath=/dev/null",
             "diff.suppressBlankEmpty=false", "diff.orderFile=/dev/null",
             "diff.autoRefreshIndex=true")  # fmt: skip
_TIMEOUT = 120


class Git:
    """git in a folder, on bytes: files may be in any encoding.

    Args:
        environment: further variables for git, such as another index.

    """

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        inherited = {
            name: value
            for name, value in read_environment().items()
            if not name.startswith("GIT_") or name.startswith(_KEPT)
        }
        self._environment = inherited | {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
        self._environment |= environment or {}

    def call(self, *arguments: str, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        """Run git; where it is not installed or takes too long, the return code is 127."""
        options = [part for setting in _SETTINGS for part in ("-c", setting)]
        command = ["git", *options, *arguments]
        try:
            return subprocess.run(  # noqa: S603 - no shell; callers check what a store gave
                command,
                cwd=self.folder,
                env=self._environment,
                input=given,
                capture_output=True,
                check=False,
                timeout=_TIMEOUT,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return subprocess.CompletedProcess(command, 127, b"", str(error).encode())

    def run(self, *arguments: str, given: bytes = b"") -> bytes | None:
        """Return the output of git; None where it fails."""
        done = self.call(*arguments, given=given)
        return None if done.returncode else done.stdout

    def text(self, *arguments: str, given: bytes = b"") -> str | None:
        """Return the output of git without its last line end; None where it fails."""
        output = self.run(*arguments, given=given)
        return None if output is None else os.fsdecode(output).removesuffix("\n")
