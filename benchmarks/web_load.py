"""Load one path over keep-alive connections: ``python -m benchmarks.web_load PORT PATH CONNECTIONS SECONDS``."""

from __future__ import annotations

import asyncio
import json
import sys
import time


async def ask(port: int, path: str, until: float, waits: list[float]) -> None:
    """Send one request after another until the time is up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
        while (start := time.perf_counter()) < until:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(head.decode())
            waits.append(time.perf_counter() - start)
    finally:
        writer.close()


async def main(port: int, path: str, connections: int, seconds: float) -> None:
    """Print what came of it as one line of JSON.

    Nobody waits for answers that take longer than the time that there is: their requests count as unanswered.
    """
    waits: list[float] = []
    start = time.perf_counter()
    asking = [asyncio.create_task(ask(port, path, start + seconds, waits)) for _ in range(connections)]
    ended, late = await asyncio.wait(asking, timeout=seconds + min(seconds, 1))
    took = time.perf_counter() - start
    for task in late:
        task.cancel()
    for task in ended:
        task.result()
    if not waits:
        raise SystemExit(f"no answer in {took:.0f} s")
    waits.sort()
    at = {name: waits[int(len(waits) * share)] for name, share in (("p50", 0.50), ("p99", 0.99))}
    print(json.dumps({"rate": len(waits) / took, "unanswered": len(late), **at}))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
