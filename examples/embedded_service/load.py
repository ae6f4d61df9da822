"""Ask the service for quotes over many connections at once, from a process of its own.

python examples/embedded_service/load.py [--port 8000] [--connections 32] [--seconds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time


async def ask(port: int, path: str, until: float, waits: list[float], refused: list[str]) -> None:
    """Send one request after another on one connection until the time is up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: keep-alive\r\n\r\n".encode()
    while (start := time.perf_counter()) < until:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.splitlines()[1:] if line)
        await reader.readexactly(int(fields[b"content-length"]))
        waits.append(time.perf_counter() - start)
        if not head.startswith(b"HTTP/1.1 200"):
            refused.append(head.splitlines()[0].decode())
    writer.close()
    await writer.wait_closed()


async def main(port: int, path: str, connections: int, seconds: float) -> int:
    """Load the service, print what came of it, and say by the exit code whether every answer was good."""
    await ask(port, path, time.perf_counter() + 0.2, [], [])
    waits: list[float] = []
    refused: list[str] = []
    until = time.perf_counter() + seconds
    await asyncio.gather(*(ask(port, path, until, waits, refused) for _ in range(connections)))
    cuts = [cut * 1000 for cut in statistics.quantiles(waits, n=100)]
    print(f"{len(waits)} requests, {len(waits) / seconds:.0f} a second, {len(refused)} refused {refused[:1]}")
    print(f"p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms")
    return 1 if refused else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Load the embedded service.")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--path", default="/quote/pear?quantity=12")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    raise SystemExit(asyncio.run(main(arguments.port, arguments.path, arguments.connections, arguments.seconds)))
