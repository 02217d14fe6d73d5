"""``python -m sipivr.simulator --listen 127.0.0.1:PORT --ledger FILE``: run the simulator until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tomllib
from pathlib import Path
from typing import Any

from sipivr.gateway.transport import is_loopback
from sipivr.simulator.app import Simulator, SimulatorSettings
from sipivr.simulator.ledger import Ledger
from sipivr.simulator.server import Server


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sipivr.simulator", description=__doc__)
    parser.add_argument(
        "--listen", default="127.0.0.1:0", metavar="HOST:PORT", help="port 0 takes a free one"
    )
    parser.add_argument("--ledger", type=Path, required=True, help="SQLite file; made if it is not there")
    parser.add_argument(
        "--config",
        type=Path,
        help="TOML: shops, sites, latency_s, slow_s, hidden_s, trickle_s, control_token",
    )
    return parser.parse_args(argv)


def settings_from(path: Path | None) -> SimulatorSettings:
    """Read the settings file.

    Raises:
        SystemExit: It cannot be read, or holds what is no setting.
    """
    if path is None:
        return SimulatorSettings()
    try:
        read: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
        return SimulatorSettings(**read)
    except (OSError, TypeError, tomllib.TOMLDecodeError) as exc:
        raise SystemExit(f"{path}: {exc}") from None


async def run(listen: str, ledger_path: Path, settings: SimulatorSettings) -> None:
    """Serve until SIGTERM or SIGINT; running requests are finished first."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    if not is_loopback(host) and not settings.control_token:
        # The control endpoint can make the simulator do anything; nothing listens outside without a key.
        raise SystemExit("listening beyond this machine needs control_token in the --config file")
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    ledger = Ledger(ledger_path)
    simulator = Simulator(ledger, settings)
    server = Server(simulator.handle)
    try:
        address, taken = await server.start(host, int(port))
        shown = f"[{address}]" if ":" in address else address
        sys.stdout.write(f"listening on http://{shown}:{taken}\n")
        sys.stdout.flush()
        await stopped.wait()
        simulator.faults.clear()
        await server.stop()
    finally:
        ledger.close()


def main(argv: list[str] | None = None) -> None:
    """Run the program."""
    arguments = _arguments(argv)
    asyncio.run(run(arguments.listen, arguments.ledger, settings_from(arguments.config)))


if __name__ == "__main__":
    main()
