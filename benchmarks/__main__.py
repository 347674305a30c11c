"""The commands: `python -m benchmarks run | report | demo | seed | at-size | failures | speed ...`.

Progress goes to stderr, results to stdout; what the user got wrong is one line and exit code 1 or 2.
"""

from __future__ import annotations

import click

from benchmarks.commands.costs import busy_command, hostile_command, networks_command, speed_command
from benchmarks.commands.latents import latents_command
from benchmarks.commands.options import Commands
from benchmarks.commands.pictures import at_size_command, demo_command, failures_command, seed_command
from benchmarks.commands.runs import report_command, run_command
from latentcodec.threads import spin_briefly


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Rate-distortion benchmarks of latentcodec and its peers, from real files."""
    spin_briefly()  # the commands load PyTorch, after this, and their processes inherit it


for command in (
    *(run_command, report_command),
    *(demo_command, seed_command, at_size_command, failures_command),
    *(speed_command, busy_command, hostile_command, networks_command, latents_command),
):
    main.add_command(command)

if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
