"""The build hook: compiles latentcodec/kernel/*.c where there is a C compiler, and does without where not.

    *.c ─► cc ─┬─ it compiles: libkernel.so in the wheel, which is then one of a platform (py3-none-PLATFORM)
               └─ no compiler, or it fails: a line that says so, and a wheel of all platforms (py3-none-any)

An editable install gets the library into the source folder. The compiler is CC, if that is set, else the
first of cc, gcc and clang. It compiles for every processor of its architecture: functions that want more ask
the processor when they run. No Python headers are needed. On Windows nothing is compiled.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent
LIBRARY = "latentcodec/kernel/libkernel.so"  # as latentcodec/kernel/library.py has it
FLAGS = ("-std=c11", "-O3", "-Wall", "-Wextra")
SHARED = ("-fPIC", "-shared", "-fvisibility=hidden")


class NotCompiled(Exception):
    """Why there is no library, in one line."""


def compiler() -> list[str]:
    """The words that a compiler's command begins with. Raises NotCompiled."""
    if sys.platform == "win32":
        raise NotCompiled("it is not compiled on Windows")
    named = shlex.split(os.environ.get("CC", ""))
    for words in [named] if named else [["cc"], ["gcc"], ["clang"]]:
        if shutil.which(words[0]):
            return words
    raise NotCompiled(f"no C compiler: {named[0] if named else 'cc, gcc and clang'} not found")


def compile_kernel(output: Path, flags: Sequence[str] = FLAGS) -> None:
    """Compile the kernel to a shared library, which appears whole or not at all. Raises NotCompiled."""
    sources = sorted(str(path) for path in (ROOT / LIBRARY).parent.glob("*.c"))
    with tempfile.TemporaryDirectory(dir=output.parent, prefix="kernel-") as folder:
        made = Path(folder) / output.name
        command = [*compiler(), *flags, *SHARED, *sources, "-o", str(made)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode or not made.is_file():
            said = (run.stderr.strip() or f"exit status {run.returncode}").splitlines()
            raise NotCompiled(
                f"{command[0]} failed: {next((line for line in said if 'error' in line), said[0])}"
            )
        made.replace(output)


class KernelHook(BuildHookInterface):  # type: ignore[type-arg]
    """What hatchling calls before and after it makes a wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; version: "standard" or "editable"."""
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        if self.target_name != "wheel":
            return
        output = ROOT / LIBRARY
        if version != "editable":
            self._folder = tempfile.TemporaryDirectory(prefix="latentcodec-")
            output = Path(self._folder.name) / output.name
        try:
            compile_kernel(output)
        except (NotCompiled, OSError, ValueError) as error:  # no program; a folder that may not be written
            output.unlink(missing_ok=True)  # one of older sources
            self.app.display_warning(f"latentcodec: no compiled kernel ({error}): numpy codes, more slowly")
            return
        if version != "editable":
            build_data["force_include"][str(output)] = LIBRARY
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{self._platform()}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was compiled for the wheel."""
        if self._folder is not None:
            self._folder.cleanup()

    def _platform(self) -> str:
        """This platform, as hatchling tags wheels that need one."""
        tag: str = self.build_config.builder.get_best_matching_tag()
        return tag.split("-")[-1]
