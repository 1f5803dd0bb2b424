"""Coverage-guided fuzzing with atheris: ``make fuzz``, or ``make fuzz ARGS="inbound --seconds 600"``.

What reaches new code is kept in .cache/fuzz/corpus, what fails is written beside it and ends the run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from tests.support.router import ROOT

WORDS = ROOT / "tests" / "data" / "fuzz" / "words.dict"
SEEDS = ROOT / "tests" / "data" / "fuzz"
FOUND = ROOT / ".cache" / "fuzz" / "corpus"
NAMES = ("inbound", "answer", "chunked", "sse", "usage", "asks", "model", "exposition", "config")
_INPUT_BYTES_MAX = 3000


def fuzz(name: str, seconds: int) -> None:
    """In a process of its own: libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=["router"]):
        from tests.fuzz.targets import QUICK

    found = FOUND / name
    found.mkdir(parents=True, exist_ok=True)
    arguments = [
        sys.argv[0],
        str(found),
        *([str(SEEDS / name)] if (SEEDS / name).is_dir() else []),
        f"-dict={WORDS}",
        f"-max_len={_INPUT_BYTES_MAX}",
        f"-max_total_time={seconds}",
        f"-artifact_prefix={found.parent}/{name}-",
        "-timeout=10",
        "-rss_limit_mb=1024",
        "-print_final_stats=1",
        "-verbosity=0",
    ]
    atheris.Setup(arguments, QUICK[name])
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", choices=[*NAMES, []], help="what to fuzz; everything by default")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        fuzz(options.targets[0], options.seconds)
        return 0
    failed = []
    for name in options.targets or NAMES:
        print(f"== {name}", flush=True)
        command = [sys.executable, "-m", "tests.fuzz", name, "--here", "--seconds", str(options.seconds)]
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            failed.append(name)
    print(f"failed: {', '.join(failed)}" if failed else "nothing was found")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
