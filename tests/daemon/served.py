"""A server of DNS over QUIC or HTTP/3, by aioquic: every A record is 192.0.2.1.

    served.py ADDRESS PORT CERTIFICATE KEY doq|h3

A line for each handshake (`handshake new` or `handshake resumed`) and each question
(`question STREAM OCTETS IDENTIFIER`). Of a name that begins with `close`, the first question has
the connection closed; with `wrong`, the answer has another identifier.
"""

import asyncio
import sys

from aioquic.asyncio import serve
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import HandshakeCompleted, StreamDataReceived

closed = set()
tickets = {}


def say(*words):
    print(*words, flush=True)


def answer(question):
    at = 12
    while question[at]:
        at += 1 + question[at]
    asked = question[12 : at + 5]
    name = asked[1 : 1 + asked[0]]
    identifier = b"\0\1" if name.startswith(b"wrong") else question[:2]
    head = identifier + b"\x81\x80" + b"\0\1\0\1\0\0\0\0"
    record = b"\xc0\x0c\0\1\0\1\0\0\1\x2c\0\4\xc0\0\2\1"
    return name, head + asked + record


class Server(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.parts = {}
        self.http = None

    def quic_event_received(self, event):
        if isinstance(event, HandshakeCompleted):
            say("handshake", "resumed" if event.session_resumed else "new")
            if event.alpn_protocol == "h3":
                self.http = H3Connection(self._quic)
        if self.http:
            for seen in self.http.handle_event(event):
                if isinstance(seen, DataReceived):
                    self.heard(seen.stream_id, seen.data, seen.stream_ended)
        elif isinstance(event, StreamDataReceived):
            self.heard(event.stream_id, event.data, event.end_stream)

    def heard(self, stream, data, ended):
        self.parts[stream] = self.parts.get(stream, b"") + data
        if not ended:
            return
        question = self.parts.pop(stream)
        if not self.http:
            assert int.from_bytes(question[:2], "big") == len(question) - 2
            question = question[2:]
        say("question", stream, len(question), question[:2].hex())
        name, message = answer(question)
        if name.startswith(b"close") and name not in closed:
            closed.add(name)
            self.close()
        elif self.http:
            headers = [
                (b":status", b"200"),
                (b"content-type", b"application/dns-message"),
                (b"age", b"100"),
            ]
            self.http.send_headers(stream, headers)
            self.http.send_data(stream, message, end_stream=True)
        else:
            framed = len(message).to_bytes(2, "big") + message
            self._quic.send_stream_data(stream, framed, end_stream=True)
        self.transmit()


async def main(address, port, certificate, key, protocol):
    configuration = QuicConfiguration(is_client=False, alpn_protocols=[protocol])
    configuration.load_cert_chain(certificate, key)
    await serve(
        address,
        int(port),
        configuration=configuration,
        create_protocol=Server,
        session_ticket_fetcher=lambda label: tickets.pop(label, None),
        session_ticket_handler=lambda ticket: tickets.update({ticket.ticket: ticket}),
    )
    say("ready")
    await asyncio.Future()


asyncio.run(main(*sys.argv[1:]))
