"""`python -m bench NAME [--json]`: runs one bench.

A bench is a module `bench/NAME.py` with `add_arguments(parser)` and `run(args) -> dict`; it prints its own
table and progress and returns what belongs in the last line. Modules whose names begin with an underscore are
parts of benches.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import bench


def names() -> list[str]:
    """Every bench there is."""
    found: set[str] = set()
    for directory in bench.__path__:
        found |= {path.stem for path in Path(directory).glob("[!_]*.py")}
        found |= {path.parent.name for path in Path(directory).glob("[!_]*/__init__.py")}
    return sorted(name for name in found if _is_bench(name))


def _is_bench(name: str) -> bool:
    spec = importlib.util.find_spec(f"bench.{name}")
    if spec is None or spec.origin is None:
        return False
    text = Path(spec.origin).read_text(encoding="utf-8")
    return "\ndef run(" in text and "\ndef add_arguments(" in text


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        model = next(
            (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model
        )
    return {
        "cpu": model,
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the bench that the command line names."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m bench", description="Benchmarks of sipivr.")
    parser.add_argument("name", choices=names(), help="which bench")
    known, _ = parser.parse_known_args(words[:1])
    module = importlib.import_module(f"bench.{known.name}")
    parser = argparse.ArgumentParser(prog=f"python -m bench {known.name}", description=module.__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    module.add_arguments(parser)
    options = parser.parse_args(words[1:])
    about = machine()
    print(
        f"{known.name} on {about['cpu']}, {about['cpus']} CPUs, Linux {about['kernel']}, load {about['load']}"
    )
    print(f"Python {about['python']}, numpy {about['numpy']}")
    result: dict[str, Any] = module.run(options)
    if options.json:
        print(json.dumps({"bench": known.name, "machine": about, **result}))
    return 0 if result.get("correct", True) else 1


def progress(text: str) -> None:
    """Says what is going on, apart from the results."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
