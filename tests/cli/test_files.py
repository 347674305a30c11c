"""Which file becomes which."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from latentcodec.cli.console import Failure
from latentcodec.cli.files import LCI, Done, Job, plan, run_jobs, write_target
from latentcodec.errors import UnreadableImage
from latentcodec.picture.picture import PICTURE_EXTENSIONS


def made(*paths: str | Path, out_dir: Path | None = None) -> list[Job]:
    folder = None if out_dir is None else str(out_dir)
    return plan(tuple(map(str, paths)), folder, PICTURE_EXTENSIONS, LCI)


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
    with pytest.raises(Failure, match=r"no files to work on below this folder \(\.apng"):
        made(tmp_path, out_dir=tmp_path / "out")
    with pytest.raises(Failure, match="there is no folder"):
        made("a.png", tmp_path / "missing" / "a.lci")


def test_two_results_in_one_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match=r"x/a\.png and y/a\.jpg would both be written to .*a\.lci"):
        made("x/a.png", "y/a.jpg", out_dir=tmp_path)


def test_a_result_over_its_source_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "a.lci"
    source.write_bytes(b"a picture, whatever its name")
    (tmp_path / "link").symlink_to(source)
    with pytest.raises(click.UsageError, match=r"a\.lci would be written over .*a\.lci"):
        made(source, source)
    with pytest.raises(click.UsageError, match="would be written over"):
        made(source, tmp_path / "link")
    with pytest.raises(click.UsageError, match="would be written over"):
        made(source, out_dir=tmp_path)


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
        run_jobs(jobs, work, "work", quiet=False)
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
    run_jobs([Job("a", "b"), Job("c", "d")], lambda job: Done("done", 1), "work", quiet=True)
    assert capsys.readouterr().err == ""


def test_run_jobs_hides_no_bug() -> None:
    def work(job: Job) -> Done:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_jobs([Job("a", "b")], work, "work", quiet=True)


def test_write_target_makes_folders_and_names_the_file(tmp_path: Path) -> None:
    target = tmp_path / "x" / "y" / "a.lci"
    write_target(Job("a", str(target)), b"data")
    assert target.read_bytes() == b"data"
    below_a_file = target / "z.lci"
    with pytest.raises(OSError, match=r"z\.lci") as raised:
        write_target(Job("a", str(below_a_file)), b"data")
    assert raised.value.filename == str(below_a_file)
    assert [path.name for path in target.parent.iterdir()] == ["a.lci"]
