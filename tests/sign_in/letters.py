"""A mail server on loopback that keeps what it is given (RFC 5321, as much of it as a client asks for)."""

import email
import email.policy
import socketserver
import threading
import time
from email.message import EmailMessage
from typing import Any, Self


class MailServer:
    """`letters` are those taken, `reject` makes it refuse them."""

    def __init__(self) -> None:
        self.letters: list[EmailMessage] = []
        self.recipients: list[str] = []
        self.reject = False
        self.arrived = threading.Event()

    def __enter__(self) -> Self:
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def say(self, text: str) -> None:
                self.wfile.write(f"{text}\r\n".encode())

            def handle(self) -> None:
                self.say("220 test")
                for raw in self.rfile:
                    line = raw.decode().strip()
                    verb = line[:4].upper()
                    if verb == "RCPT":
                        outer.recipients.append(line)
                    if verb == "DATA" and not outer.reject:
                        self.say("354 go on")
                        lines = []
                        for part in self.rfile:
                            if part == b".\r\n":
                                break
                            lines.append(part.removeprefix(b".") if part.startswith(b"..") else part)
                        message: Any = email.message_from_bytes(b"".join(lines), policy=email.policy.default)
                        outer.letters.append(message)
                        outer.arrived.set()
                    if verb == "QUIT":
                        self.say("221 bye")
                        return
                    self.say("554 no" if verb == "DATA" and outer.reject else "250 ok")
                    if verb == "DATA" and outer.reject:
                        outer.arrived.set()

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self._server.server_address[1]}"

    def wait(self) -> EmailMessage:
        """The next letter, within seconds."""
        assert self.arrived.wait(10), "no letter"
        self.arrived.clear()
        return self.letters[-1]

    def all(self, number: int) -> list[EmailMessage]:
        """That many letters, within seconds."""
        until = time.monotonic() + 10
        while len(self.letters) < number:
            assert time.monotonic() < until, f"{len(self.letters)} letters"
            time.sleep(0.01)
        return self.letters
