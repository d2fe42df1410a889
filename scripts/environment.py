"""A virtualenv for the scripts beside this file: made once, kept up to date, mended when half made.

Plain standard library, and no syntax newer than Python 3.6: an old Python must get as far as the
message that tells it is too old.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MINIMUM = (3, 10)
NEEDED_BYTES = 1200 * 1000 * 1000
STAMP = "ragstack.stamp"
UNFINISHED = "ragstack.unfinished"


def fail(message):
    """Print what is wrong and what to do about it; end with status 1."""
    print("\nerror: " + message, file=sys.stderr)
    sys.exit(1)


def check_python():
    """End with a message unless this Python can make the virtualenv."""
    if sys.version_info < MINIMUM:
        newer = [f"python3.{minor}" for minor in range(19, 9, -1) if shutil.which(f"python3.{minor}")]
        advice = f"Run: {newer[0]} {' '.join(sys.argv)}" if newer else "Install a newer one, such as from python.org."
        here = ".".join(map(str, sys.version_info[:3]))
        fail(f"this is Python {here} ({sys.executable}); ragstack needs {MINIMUM[0]}.{MINIMUM[1]} or newer.\n{advice}")
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError as error:
        fail(
            f"this Python has no '{error.name}', so it can't make a virtualenv.\n"
            "On Debian or Ubuntu: sudo apt install python3-venv"
        )


def prepare(name, installs):
    """A virtualenv at ``ROOT/name`` with these pip installs done; returns its Python.

    ``installs`` is a list of argument lists for ``pip install``. Nothing is done when the last run did the
    same for the same pyproject.toml.
    """
    check_python()
    folder = ROOT / name
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pyproject = (ROOT / "pyproject.toml").read_bytes()
    # The folder's own path counts: a virtualenv that was moved still points at the old place.
    stamp = hashlib.sha256(repr((pyproject, installs, str(folder))).encode("utf-8")).hexdigest()
    stamp_file = folder / STAMP
    if _read(stamp_file) == stamp and _runs(python, "import ragstack"):
        return python
    _remove_broken(folder, python)
    free = shutil.disk_usage(str(ROOT)).free
    if not python.exists() and free < NEEDED_BYTES:
        fail(f"{free / 1e6:.0f} MB are free at {ROOT}; about {NEEDED_BYTES / 1e6:.0f} MB are needed.")
    if not python.exists():
        print(f"Making the virtualenv {name} ...", flush=True)
        folder.mkdir(exist_ok=True)
        (folder / UNFINISHED).touch()
        _call([sys.executable, "-m", "venv", str(folder)], "the virtualenv could not be made")
    if not _runs(python, "import pip"):
        _call([str(python), "-m", "ensurepip", "--upgrade"], "pip could not be put into the virtualenv")
    print("Installing (a minute or so the first time) ...", flush=True)
    for arguments in installs:
        _call(
            [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", *arguments],
            "installing failed; pip's message is above. Usual causes: no network (a proxy is set by HTTPS_PROXY,\n"
            "another package index by PIP_INDEX_URL), or a full disk "
            f"({shutil.disk_usage(str(ROOT)).free / 1e6:.0f} MB are free). It is safe to run this again",
        )
    if not _runs(python, "import ragstack"):
        fail(f"ragstack was installed but can't be imported. Delete {folder} and run this again.")
    stamp_file.write_text(stamp, encoding="utf-8")
    if (folder / UNFINISHED).exists():
        (folder / UNFINISHED).unlink()
    return python


def _remove_broken(folder, python):
    """Remove a virtualenv whose making was cut off, or whose Python is gone or too old."""
    if not folder.exists() and not folder.is_symlink():
        return
    version = f"import sys; sys.exit(sys.version_info < {MINIMUM})"
    if not (folder / UNFINISHED).exists() and _runs(python, version):
        return
    if folder.is_symlink() or not folder.is_dir():
        fail(f"{folder} is in the way and is no folder. Move it and run this again.")
    is_ours = (folder / UNFINISHED).exists() or (folder / "pyvenv.cfg").exists() or not any(folder.iterdir())
    if not is_ours:
        fail(f"{folder} is in the way and is no virtualenv. Move it and run this again.")
    print(f"The virtualenv {folder.name} is broken or unfinished; making it again.", flush=True)
    shutil.rmtree(str(folder))


def clean_environment():
    """This process's environment without what would lead another Python astray, or make it compile at each start."""
    astray = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE")
    kept = {key: value for key, value in os.environ.items() if key not in astray}
    kept["PYTHONNOUSERSITE"] = "1"
    return kept


def _read(path):
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _runs(python, code):
    """True when this Python starts and the code ends well in it."""
    try:
        done = subprocess.run(
            [str(python), "-c", code],
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=clean_environment(),
            cwd=str(ROOT / "scripts"),
        )
    except OSError:
        return False
    return done.returncode == 0


def _call(command, problem):
    try:
        done = subprocess.run(command, check=False, env=clean_environment(), cwd=str(ROOT))
    except OSError as error:
        fail(f"{problem}: {error}.")
    if done.returncode != 0:
        fail(f"{problem}.")
