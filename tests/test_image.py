"""The Dockerfile's own steps, replayed in a folder: what it copies is enough to run.

Packages come from this environment instead of an index; Debian's are not installed.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow
STEPS = [
    tuple(line.strip().split(" ", 1))
    for line in re.sub(r"\\\n|#.*\n", " ", (ROOT / "Dockerfile").read_text()).splitlines()
    if line.strip()
]


def step(kind: str, holding: str = "") -> str:
    """The arguments of the one step of a kind that holds a text."""
    (found,) = (" ".join(text.split()) for name, text in STEPS if name == kind and holding in text)
    return found


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Path:
    """The folder that the image holds, with its virtual environment."""
    folder = tmp_path_factory.mktemp("image")
    for kind, text in STEPS:
        if kind == "COPY":
            *sources, target = [w for w in text.split() if not w.startswith("--")]
            for source in sources:
                if (ROOT / source).is_dir():
                    ignored = shutil.ignore_patterns("__pycache__")
                    shutil.copytree(ROOT / source, folder / target, ignore=ignored)
                else:
                    shutil.copy(ROOT / source, folder / target)
    install = step("RUN", "pip install")
    extras = re.search(r"-c constraints.txt -e '\.\[(.+)\]'", install)
    assert extras and extras[1] == "cluster,demo"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", ".venv"], cwd=folder, check=True)
    python = folder / ".venv" / "bin" / "python"
    said = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    packages = [sysconfig.get_path("purelib"), *(p for p in sys.path if p.endswith("-packages"))]
    Path(said.stdout.strip(), "made.pth").write_text("\n".join(dict.fromkeys(packages)))
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--ignore-installed"]
    subprocess.run([*pip, *offline, "-e", "."], cwd=folder, check=True)
    return folder


def entered(image: Path, *command: str, **env: str) -> subprocess.CompletedProcess:
    """What the entry point does with a command."""
    (entry,) = re.findall(r"/jobs/\S+\.sh", step("ENTRYPOINT"))
    path = f"{image}/.venv/bin:{os.environ['PATH']}"
    return subprocess.run(
        [f"{image}{entry}", *command],
        cwd=image,
        env={"PATH": path, "HOME": str(image), **env},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_what_is_copied_runs_a_job(image):
    done = entered(image, *shlex.split(re.sub(r'[\[\],"]', " ", step("CMD"))))
    assert done.returncode == 0 and "Choose components with group=name" in done.stdout, done.stderr
    done = entered(image, "jobs.demo", f"out={image}/demo")
    assert "8 photographs in 2 demo shards" in done.stdout, done.stderr
    where = entered(image, "python", "-c", "import pipeline; print(pipeline.__file__)")
    assert where.stdout.strip() == f"{image}/pipeline/__init__.py"


def test_a_head_is_never_started_without_a_token(image):
    script = image / "ray"
    script.write_text('#!/bin/sh\necho "$RAY_AUTH_MODE $*" >> said\numask >> said\n')
    script.chmod(0o755)
    (image / "said").unlink(missing_ok=True)

    def told(*command: str, **env: str) -> list[str]:
        entered(
            image,
            "env",
            f"PATH={image}:/usr/bin:/bin",
            *command,
            PATH=f"{image}:/usr/bin:/bin",
            **env,
        )
        lines = (image / "said").read_text().splitlines()
        (image / "said").unlink()
        return lines[::2]

    head = ("ray", "start", "--head", "--block")
    made = "token get-auth-token --generate"
    assert told(*head) == [made, "token start --head --block"]
    assert told(*head, RAY_AUTH_TOKEN="x" * 64) == ["token start --head --block"]
    assert told("ray", "start", "--address=a:1") == ["token start --address=a:1"]


def test_it_runs_as_nobody_in_particular_and_says_whether_it_is_well():
    kinds = [kind for kind, _ in STEPS]
    assert step("USER") == "quorum" and kinds.index("USER") < kinds.index("COPY")
    assert "HEALTHCHECK" in kinds and "RAY_AUTH_MODE=token" in step("ENV")
    assert step("FROM") == "${BASE}"
