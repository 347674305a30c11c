"""Which file becomes which."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest

from latentcodec.cli.console import Failure
from latentcodec.cli.files import LCI, Done, Job, Plan, plan, run_jobs, write_target
from latentcodec.errors import UnreadableImage
from latentcodec.picture.picture import PICTURE_EXTENSIONS


def planned(*paths: str | Path, out_dir: Path | None = None, keep_extension: bool = False) -> Plan:
    folder = None if out_dir is None else str(out_dir)
    return plan(tuple(map(str, paths)), folder, PICTURE_EXTENSIONS, LCI, keep_extension=keep_extension)


def made(*paths: str | Path, out_dir: Path | None = None, keep_extension: bool = False) -> list[Job]:
    plan = planned(*paths, out_dir=out_dir, keep_extension=keep_extension)
    assert plan.refused == []
    return plan.jobs


def test_one_file(tmp_path: Path) -> None:
    source, target = str(tmp_path / "a.png"), str(tmp_path / "b.lci")
    assert made(source, target) == [Job(source, target)]
    assert made("-", "-") == [Job("-", "-")]
    assert (Job("-", "-").name, Job("-", "-").target_name) == ("standard input", "standard output")


def test_a_folder_keeps_its_sub_folders(album: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    expected = [
        Job(str(album / source), str(out / target))
        for source, target in (
            ("a.png", "a.lci"),
            ("sub/b.jpg", "sub/b.lci"),
            ("sub/deep/c.bmp", "sub/deep/c.lci"),
        )
    ]
    assert made(album, out_dir=out) == expected
    assert made(album / "a.png", album / "sub", out_dir=out)[:2] == [
        expected[0],
        Job(str(album / "sub/b.jpg"), str(out / "b.lci")),
    ]


def test_a_missing_file_is_left_to_the_work(tmp_path: Path) -> None:
    assert made("nothing.png", out_dir=tmp_path) == [Job("nothing.png", str(tmp_path / "nothing.lci"))]


def test_names_with_dots(tmp_path: Path) -> None:
    (job,) = made("x.tar.png", out_dir=tmp_path)
    assert Path(job.target).name == "x.tar.lci"


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["a.png"], "a.png: name the output"),
        (["a.png", "b.png", "c.png"], "3 files without --out-dir"),
        (["a.png", "{tmp}"], "is a folder: name a file, or use --out-dir"),
        (["{tmp}", "b.lci"], "is a folder: name the folder for the results with --out-dir"),
    ],
)
def test_wrong_arguments(paths: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match=message):
        made(*(path.format(tmp=tmp_path) for path in paths))


def test_wrong_arguments_with_a_folder(tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match="- has no name for a file in --out-dir"):
        made("a.png", "-", out_dir=tmp_path)
    (refused,) = planned(tmp_path, out_dir=tmp_path / "out").refused
    assert refused.line.startswith(f"{tmp_path}: no files to work on below this folder (.apng")
    assert refused.files == 0
    with pytest.raises(click.UsageError, match="--keep-extension names files in --out-dir"):
        made("a.png", "a.lci", keep_extension=True)
    with pytest.raises(Failure, match="there is no folder"):
        made("a.png", tmp_path / "missing" / "a.lci")


def test_what_would_be_written_to_one_file_is_told_at_once_and_the_rest_done(tmp_path: Path) -> None:
    paths = ("x/a.png", "y/a.jpg", "b.png", "x/c.png", "y/c.png", "b.png")
    plan = planned(*paths, out_dir=tmp_path)
    assert plan.jobs == [Job("b.png", str(tmp_path / "b.lci"))]  # which stands there twice, and is done once
    (refused,) = plan.refused
    assert refused.files == 4
    assert refused.line == (
        f"several pictures would be written to one file, {tmp_path}/a.lci of x/a.png and of y/a.jpg; "
        f"{tmp_path}/c.lci of x/c.png and of y/c.png: --keep-extension keeps them apart, or use several "
        "--out-dir"
    )
    plan = planned(*paths, out_dir=tmp_path, keep_extension=True)
    assert [Path(job.target).name for job in plan.jobs] == ["a.png.lci", "a.jpg.lci", "b.png.lci"]
    (refused,) = plan.refused
    assert "c.png.lci of x/c.png and of y/c.png: name them apart, or use several" in refused.line


def test_a_result_over_its_source_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "a.lci"
    source.write_bytes(b"a picture, whatever its name")
    (tmp_path / "link").symlink_to(source)
    with pytest.raises(click.UsageError, match=r"a\.lci would be written over .*a\.lci"):
        made(source, source)
    with pytest.raises(click.UsageError, match="would be written over"):
        made(source, tmp_path / "link")
    plan = planned(source, "b.png", out_dir=tmp_path)
    assert plan.jobs == [Job("b.png", str(tmp_path / "b.lci"))]
    assert [refused.line for refused in plan.refused] == [
        f"{source} would be written over {source}: use another --out-dir"
    ]


def test_links_to_folders_are_followed_once(album: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "e.png").touch()
    (elsewhere / "back").symlink_to(album)
    (album / "again").symlink_to("sub")
    (album / "sub" / "up").symlink_to(album)
    (album / "more").symlink_to(elsewhere)
    plan = planned(album, out_dir=tmp_path / "out")
    assert [job.source.removeprefix(f"{album}/") for job in plan.jobs] == [
        "a.png",
        "more/e.png",
        "sub/b.jpg",
        "sub/deep/c.bmp",
    ]
    assert plan.refused == []
    assert plan.passed_over == [
        *(
            f"{album}/{link}: this link leads back to what is searched already"
            for link in ("again", "sub/up", "more/back")
        ),
        f"{album}: files of other kinds are left alone: 1 (.txt)",
    ]


def test_what_is_no_regular_file_is_refused(album: Path, tmp_path: Path) -> None:
    os.mkfifo(album / "pipe.png")
    (album / "gone.png").symlink_to("nowhere")
    plan = planned(album, out_dir=tmp_path / "out")
    assert [refused.line for refused in plan.refused] == [f"{album}/pipe.png: it is no regular file"]
    assert str(album / "gone.png") in {job.source for job in plan.jobs}  # whose reading fails


def test_a_folder_that_cannot_be_read_is_told(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = os.listdir

    def listdir(path: Path) -> list[str]:
        if path == album / "sub":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "listdir", listdir)
    plan = planned(album, out_dir=tmp_path / "out")
    assert [job.source for job in plan.jobs] == [str(album / "a.png")]
    assert [(refused.line, refused.files) for refused in plan.refused] == [
        (f"{album}/sub: Permission denied", 0)
    ]


def test_run_jobs_goes_on_after_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    def work(job: Job) -> Done:
        if job.source == "b":
            raise UnreadableImage("not a picture\nat all")
        if job.source == "c":
            raise FileNotFoundError(2, "No such file or directory", "c")
        if job.source == "d":
            raise MemoryError
        return Done(f"{job.name} done", 10)

    jobs = [Job(name, f"{name}.lci") for name in "abcde"]
    with pytest.raises(click.exceptions.Exit) as ended:
        run_jobs(Plan(jobs), work, "work", quiet=False)
    assert ended.value.exit_code == 1
    assert capsys.readouterr().err.splitlines() == [
        "a done",
        "latentcodec: b: not a picture at all",
        "latentcodec: c: No such file or directory",
        "latentcodec: d: not enough memory",
        "e done",
        "2 files, 20 bytes of .lci",
        "latentcodec: 3 of 5 files failed",
    ]


def test_run_jobs_quietly(capsys: pytest.CaptureFixture[str]) -> None:
    run_jobs(Plan([Job("a", "b"), Job("c", "d")]), lambda job: Done("done", 1), "work", quiet=True)
    assert capsys.readouterr().err == ""


def test_run_jobs_hides_no_bug() -> None:
    def work(job: Job) -> Done:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_jobs(Plan([Job("a", "b")]), work, "work", quiet=True)


def test_a_bug_costs_one_file_of_several(capsys: pytest.CaptureFixture[str]) -> None:
    def work(job: Job) -> Done:
        return Done("", 1 // len(job.target))

    with pytest.raises(click.exceptions.Exit):
        run_jobs(Plan([Job("a", ""), Job("c", "d")]), work, "work", quiet=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-3:] == [
        "ZeroDivisionError: integer division or modulo by zero",
        "latentcodec: a: a bug of latentcodec, the lines above show where",
        "latentcodec: 1 of 2 files failed",
    ]


def test_write_target_makes_folders_and_names_the_file(tmp_path: Path) -> None:
    target = tmp_path / "x" / "y" / "a.lci"
    write_target(Job("a", str(target)), b"data")
    assert target.read_bytes() == b"data"
    below_a_file = target / "z.lci"
    with pytest.raises(OSError, match=r"z\.lci") as raised:
        write_target(Job("a", str(below_a_file)), b"data")
    assert raised.value.filename == str(below_a_file)
    assert [path.name for path in target.parent.iterdir()] == ["a.lci"]
