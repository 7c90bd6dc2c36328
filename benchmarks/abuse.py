"""`python -m benchmarks.abuse PORT CONNECTIONS KEY...`: asks without a pause, with each key over all connections."""

import asyncio
import sys


def request(path: str, key: str) -> bytes:
    """A GET as bytes."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n\r\n".encode()


async def answer(reader: asyncio.StreamReader) -> int:
    """The status of an answer, once it is read."""
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    await reader.readexactly(lengths[0] if lengths else 0)
    return int(head[9:12])


async def abuse(port: int, keys: list[str], connections: int) -> None:
    """Asks without a pause until it is ended; prints how many answers of each status came, each second."""
    counts: dict[int, int] = {}

    async def connection(key: str) -> None:
        text = request("/v1/units", key)
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                while True:
                    writer.write(text)
                    status = await answer(reader)
                    counts[status] = counts.get(status, 0) + 1
            except (asyncio.IncompleteReadError, OSError):
                writer.close()

    asking = [asyncio.create_task(connection(key)) for key in keys for _ in range(connections)]
    while asking:
        await asyncio.sleep(1)
        print(*(f"{status}:{number}" for status, number in sorted(counts.items())), flush=True)
        counts.clear()


if __name__ == "__main__":
    asyncio.run(abuse(int(sys.argv[1]), sys.argv[3:], int(sys.argv[2])))
