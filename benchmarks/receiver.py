"""`python -m benchmarks.receiver PORT FILE`: takes webhooks as fast as it can, and writes when each id first came."""

import asyncio
import sys
import time
from pathlib import Path

_REPLY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


class Receiver(asyncio.Protocol):
    """One connection of a sender."""

    seen: dict[bytes, float] = {}  # noqa: RUF012 - one for the process
    count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins."""
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        """Answers each whole request."""
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            size = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            if len(self.buffer) < end + 4 + size:
                return
            id_ = head.partition(b"webhook-id:")[2].partition(b"\r\n")[0].strip()
            Receiver.seen.setdefault(id_, time.time())
            Receiver.count += 1
            self.buffer = self.buffer[end + 4 + size :]
            self.transport.write(_REPLY)  # type: ignore[attr-defined]


async def main(port: int, file: Path) -> None:
    """Serves until it is killed; the file holds the number of requests and of different ids, and the last time."""
    await asyncio.get_running_loop().create_server(Receiver, "127.0.0.1", port)
    written = -1
    while True:
        await asyncio.sleep(0.05)
        if Receiver.count != written:
            written = Receiver.count
            lines = [f"{written} {len(Receiver.seen)} {max(Receiver.seen.values(), default=0)}"]
            if len(Receiver.seen) <= 2_000:
                lines += [f"{id_.decode()} {at}" for id_, at in Receiver.seen.items()]
            file.with_suffix(".new").write_text("\n".join(lines))
            file.with_suffix(".new").rename(file)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))
