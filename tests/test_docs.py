"""What README.md and the pages of docs/ show runs as it stands, and says what is there.

In ``python`` blocks and ``pycon`` blocks, whose outputs are compared, names are shared over a page; from the first
block on that speaks of torch, a page needs PyTorch. The ``$ briskmlp`` lines of ``console`` blocks run, too; outputs
and errors under them are compared. Other languages are not run.
"""

import doctest
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest

import briskmlp
from briskmlp.cli import main

TOP = Path(__file__).parent.parent
PAGES = [TOP / "README.md", *sorted(TOP.glob("docs/*.md"))]
LANGUAGES = ("python", "pycon", "console")
BLOCK = re.compile(r"^```(\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A fenced block of a page, and the line of the page before its first."""

    language: str
    text: str
    line: int


def blocks_of(page):
    """Return the blocks of a page that are run."""
    text = page.read_text(encoding="utf-8")
    found = [Block(match[1], match[2], text[: match.start(2)].count("\n")) for match in BLOCK.finditer(text)]
    return [block for block in found if block.language in LANGUAGES]


def without_torch(blocks):
    """Return the blocks before the first one that speaks of torch."""
    first = next((i for i, block in enumerate(blocks) if "torch" in block.text), len(blocks))
    return blocks[:first]


def run(page, blocks, capsys):
    """Run blocks one after the other."""
    names = {}
    for block in blocks:
        if block.language == "python":
            exec(compile("\n" * block.line + block.text, page, "exec"), names)
        elif block.language == "pycon":
            run_session(page, block, names, capsys)
        else:
            run_commands(page, block, capsys)


def run_session(page, block, names, capsys):
    """Run the ``>>>`` lines of a block, and compare what they print."""
    test = doctest.DocTestParser().get_doctest(block.text, {}, page.name, str(page), block.line)
    test.globs = names  # that of the page, not a copy
    with capsys.disabled():  # doctest has a stdout of its own
        said = []
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
        failures, _ = runner.run(test, out=said.append, clear_globs=False)
    assert not failures, "".join(said)


def run_commands(page, block, capsys):
    """Run the ``$`` lines of a block as the command line does, and compare what they print, if the block tells it."""
    for command in block.text.split("$ ")[1:]:
        line, _, wanted = command.partition("\n")
        program, *arguments = shlex.split(line, comments=True)
        assert program == "briskmlp", f"{page.name} has a console block with {line!r}; only briskmlp is run"
        capsys.readouterr()
        code, (out, err) = main(arguments), capsys.readouterr()
        fails = wanted.startswith("briskmlp: error:")
        assert (code != 0) == fails, err
        came = err.splitlines(keepends=True)[-1] if fails else out  # after the notes
        if wanted.strip():
            assert doctest.OutputChecker().check_output(wanted, came, doctest.ELLIPSIS), f"{line}\n{came}"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Run the pages in an empty folder, with lines as wide as they are written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("page", [page for page in PAGES if without_torch(blocks_of(page))], ids=lambda page: page.stem)
def test_page(page, capsys):
    run(page, without_torch(blocks_of(page)), capsys)


@pytest.mark.torch
@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "page", [p for p in PAGES if without_torch(blocks_of(p)) != blocks_of(p)], ids=lambda p: p.stem
)
def test_page_with_torch(page, capsys):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    run(page, blocks_of(page), capsys)


def test_reference_has_every_public_name():
    reference = (TOP / "docs/api.rst").read_text(encoding="utf-8").split()
    assert set(briskmlp.__all__) - {"__version__"} <= set(reference)


def files_named(page):
    """Return the files in the tables of a page."""
    rows = (line for line in (TOP / f"docs/{page}.md").read_text(encoding="utf-8").splitlines() if line[:1] == "|")
    named = {file for row in rows for file in re.findall(r"`((?:src|kernels|tests)/[\w/]+\.\w+)`", row)}
    assert all((TOP / file).exists() for file in named)
    return named


def test_pages_on_adding_name_all_files():
    for page in ("adding_an_activation", "adding_an_optimizer"):
        assert len(files_named(page)) == 5
    example = "avx2"
    sources = [*TOP.glob("src/**/*.py"), *(file for file in TOP.glob("kernels/**/*") if file.suffix != ".md")]
    having = {
        file.relative_to(TOP).as_posix()
        for file in sources
        if file.is_file() and (example in file.name or example in file.read_text(encoding="utf-8").lower())
    }
    assert having <= files_named("adding_an_isa")


def test_files_and_commands_exist():
    text = (TOP / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"briskmlp (train|predict|info|demo|profile)\b", text)
    assert commands
    for command in commands:
        assert main([command, "--help"]) == 0
    for name in re.findall(r"\]\(([^):#]+)\)|`([\w/]+/)`", text):
        assert (TOP / "".join(name)).exists(), name
