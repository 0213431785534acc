"""Clients that ask an HTTP service on loopback at the same time, as cheap as they can be: the service has the cores."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Heard:
    """What the clients got: seconds of each answer, answers by status, and what broke."""

    seconds: list[float] = field(default_factory=list[float])
    statuses: Counter[int] = field(default_factory=Counter[int])
    broken: list[str] = field(default_factory=list[str])
    wall: float = 0.0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.seconds) / self.wall

    def percentile(self, share: float) -> float:
        """The time in ms within which a share of the answers came."""
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def ask(address: str, paths: Iterator[str], clients: int, going: Callable[[], bool]) -> Heard:
    """Have `clients` connections ask one path after the other while it goes on, each waiting for its answer."""
    parts = urlsplit(address)
    heard = Heard()
    began = time.perf_counter()

    async def client() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        while going():
            sent = time.perf_counter()
            writer.write(f"GET {next(paths)} HTTP/1.1\r\nhost: {parts.netloc}\r\n\r\n".encode())
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
            except (OSError, asyncio.IncompleteReadError) as error:
                heard.broken.append(f"{type(error).__name__}: {error}")
                reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
                continue
            heard.seconds.append(time.perf_counter() - sent)
            heard.statuses[int(head[9:12])] += 1
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    heard.wall = time.perf_counter() - began
    return heard


async def ask_for(address: str, paths: Iterator[str], clients: int, seconds: float) -> Heard:
    """The same for some seconds."""
    until = time.perf_counter() + seconds
    return await ask(address, paths, clients, lambda: time.perf_counter() < until)
