"""Every command that README and docs show exists and takes the options that it is shown with.

Snakemake is called dry, make too; the command line's own parser reads the options of `pipeline`, and what takes one's
own files is really run in test_docs_own_data.py. What can't be called here (a cluster's commands, a server) is on a
list, by name.
"""

import re
import shlex
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from pipeline import cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "CHANGELOG.md"]
PAGES.remove(ROOT / "docs/extending.md")  # its commands are of the system that it builds: test_extending.py
SHELLS = ("bash", "sh", "console", "shell")
OURS = ("make", "snakemake", "python -m pipeline", "pipeline")
# Of the system, of a cluster, or of a package with tests of its own.
FOREIGN = {"cd", "source", "export", "git", "pip", "mkdir", "squeue", "scancel", "sacct", "mlflow", "snakedeploy"}
ELSEWHERE = ("profiles/kubernetes",)  # needs a plugin that isn't in the lock


def commands(text: str) -> list[str]:
    """Commands of shell blocks, and of the text between backticks where it begins as one of ours."""
    found = []
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S):
        if language in SHELLS:
            lines = block.replace("\\\n", " ").splitlines()
            found += [line.removeprefix("$ ") for line in lines if line.strip() and not line.startswith("#")]
        found += re.findall(r"^# .*?: (snakemake .*)$", block, re.M)  # "used with: snakemake …"
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    found += [one for one in re.findall(r"`([^`\n]+)`", prose) if re.match(rf"(\w+=\S+ )*({'|'.join(OURS)}) ", one)]
    return found


def words(command: str) -> list[str]:
    """Without comments and the assignments in front."""
    split = shlex.split(command, comments=True)
    while split and re.match(r"[A-Z_]+=", split[0]):
        split.pop(0)
    return split


def shown() -> list[tuple[str, list[str]]]:
    """(page, words) of each command; those with something to fill in (<url>, …) are named as such in the text."""
    return [
        (page.name, words(command))
        for page in PAGES
        if page.exists()
        for command in commands(page.read_text())
        if not re.search(r"[<>…]|\.\.\.", command) and words(command)
    ]


def test_commands_are_found_in_blocks_in_prose_and_in_comments():
    text = (
        "Do `make test` or `name = x`.\n```bash\nA=1 snakemake --cores 2 \\\n  all  # why\n# no\ncd x\n```\n"
        "```yaml\n# mine.yaml, used with: snakemake -n\na: 1\n```\n"
    )
    assert [words(one) for one in commands(text)] == [
        ["snakemake", "--cores", "2", "all"],
        ["cd", "x"],
        ["snakemake", "-n"],
        ["make", "test"],
    ]


def test_pages_show_commands_and_every_program_is_known():
    everything = shown()
    assert len(everything) > 10
    unknown = {
        (page, split[0])
        for page, split in everything
        if split[0] not in FOREIGN | {"make", "snakemake", "pipeline"} and split[:3] != ["python", "-m", "pipeline"]
    }
    assert not unknown


def test_options_and_commands_of_the_pipeline_exist(capsys):
    everything = [split for _, split in shown()]
    calls = [split[3:] for split in everything if split[:3] == ["python", "-m", "pipeline"]]
    calls += [split[1:] for split in everything if split[0] == "pipeline"]
    assert calls
    for arguments in calls:
        assert understood(arguments, capsys), f"pipeline {shlex.join(arguments)}: {capsys.readouterr().err}"


def understood(arguments: list[str], capsys) -> bool:
    """Whether the command line takes the arguments; a command that a sentence mentions may lack its file."""
    try:
        cli.parser().parse_args(arguments)
    except SystemExit as end:
        if end.code == 0:
            return True
        error = capsys.readouterr().err
        if "--help" not in arguments and "arguments are required" in error:
            return understood([*arguments, "--help"], capsys)
        print(error, file=sys.stderr)
        return False
    return True


def test_targets_of_make_exist():
    calls = [split[1:] for _, split in shown() if split[0] == "make"]
    targets = {word for call in calls for word in call if "=" not in word}
    assert {"test"} <= targets
    for target in sorted(targets):
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, f"make {target}: {done.stderr}"


def test_snakemake_commands_plan_what_they_name(new_project):
    project = new_project()
    for name, content in own_files().items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(content)
    together: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for _, split in shown():
        if split[0] == "snakemake" and not any(place in split for place in ELSEWHERE):
            targets = [word for word in split if word.startswith("results/") or word in ("all", "light")]
            options, taken = [], False
            for word in split[1:]:
                if word in ("--cores", "--jobs", "-j", "--report"):  # given anyway; a report needs results
                    taken = True
                elif taken and not word.startswith("-"):
                    taken = False
                elif word not in targets:
                    options.append(word)
                    taken = False
            together[tuple(options)] |= set(targets)
    assert together
    for options, targets in together.items():
        code, text = project.call("-n", *sorted(targets), *options)
        assert code == 0, f"snakemake {shlex.join(options)} {targets}:\n{text}"


def own_files() -> dict[str, str]:
    """Files that the pages show (their first line names them), and the data that these name."""
    files = {
        "plant.csv": "date,load\n2024-01-01 00:00,1\n",
        "my_catalogue.csv": "time,longitude,latitude,mag\n2024-01-01T00:00:00Z,1,2,3\n",
    }
    for page in PAGES:
        text = page.read_text() if page.exists() else ""
        for name, block in re.findall(r"^```yaml\n# (\S+\.yaml).*?\n(.*?)^```", text, re.M | re.S):
            files[name] = block
    return files | {"speeds.csv": "time,a,b\n2024-01-01 00:00,50,60\n", "edges.csv": "source,target\na,b\n"}


def test_files_that_pages_link_to_exist():
    for page in PAGES:
        text = page.read_text() if page.exists() else ""
        links = re.findall(r"\]\(([^)#\s]+)\)", text)
        missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
        assert not missing, page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_names_a_path_of_one_machine(page):
    text = page.read_text() if page.exists() else ""
    assert not re.search(r"(?<![\w.])/(?:tmp|root|work|home)/", text)
