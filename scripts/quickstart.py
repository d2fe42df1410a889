"""Sets ragstack up in this checkout, indexes the example corpus and asks it a question.

    python3 scripts/quickstart.py [QUESTION]

Safe to run twice; the second run only asks. Needs Python 3.10 or newer and, the first time, a network.
"""

import os
import subprocess
import sys

from environment import ROOT, clean_environment, prepare

QUESTION = "How long do we keep raw images before they are deleted?"


def run(python, arguments):
    """Show a ragstack command, run it beside the corpus, and end with its status if it fails."""
    shown = " ".join(f'"{part}"' if " " in part else part for part in arguments)
    print(f"\n$ ragstack {shown}", flush=True)
    done = subprocess.run(
        [str(python), "-m", "ragstack", *arguments], check=False, cwd=str(ROOT / "examples"), env=clean_environment()
    )
    if done.returncode != 0:
        sys.exit(done.returncode)


def main():
    question = " ".join(sys.argv[1:]) or QUESTION
    if question in ("-h", "--help"):
        print(__doc__)
        return
    python = prepare(".venv", [["-e", str(ROOT)]])
    run(python, ["index", "corpus"])
    run(python, ["query", question])
    script = python.parent / ("ragstack.exe" if os.name == "nt" else "ragstack")
    print(
        "\nNow your own folder:\n"
        f"  cd your/folder\n"
        f"  {script} index .\n"
        f'  {script} query "What do you want to know?"\n'
        f"'{script} --help' says more; 'ragstack init' writes a config with every setting explained."
    )


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("\ninterrupted; it is safe to run this again.", file=sys.stderr)
        sys.exit(130)
