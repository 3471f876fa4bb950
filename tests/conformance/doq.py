"""DNS over QUIC by aioquic, well and badly: prints what came of it as JSON.

    doq.py ADDRESS PORT CA-FILE WHAT QUERY-IN-HEX

WHAT: `ask`, `twice` (two streams at once), `id` (a message id that is not 0), `no-fin` (the stream
stays open), `two` (two queries on one stream).
"""

import asyncio
import json
import sys

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StreamDataReceived, StreamReset


class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.answers = {}
        self.ended = set()
        self.reset = {}
        self.closed = None
        self.news = asyncio.Event()

    def quic_event_received(self, event):
        if isinstance(event, StreamDataReceived):
            self.answers[event.stream_id] = self.answers.get(event.stream_id, b"") + event.data
            if event.end_stream:
                self.ended.add(event.stream_id)
        elif isinstance(event, StreamReset):
            self.reset[event.stream_id] = event.error_code
        elif isinstance(event, ConnectionTerminated):
            self.closed = event.error_code
        self.news.set()

    def send(self, content, fin=True):
        stream = self._quic.get_next_available_stream_id()
        self._quic.send_stream_data(stream, content, fin)
        self.transmit()
        return stream

    async def until(self, done):
        async with asyncio.timeout(5):
            while not done():
                self.news.clear()
                await self.news.wait()


def framed(message):
    return len(message).to_bytes(2, "big") + message


async def main():
    address, port, ca, what, query = sys.argv[1:6]
    query = bytes.fromhex(query)
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["doq"])
    configuration.load_verify_locations(cafile=ca)
    async with connect(
        address, int(port), configuration=configuration, create_protocol=Client
    ) as client:
        if what == "id":
            query = b"\x12\x34" + query[2:]
        streams = [client.send(framed(query) * (2 if what == "two" else 1), what != "no-fin")]
        if what == "twice":
            streams.append(client.send(framed(query)))
        try:
            await client.until(
                lambda: client.closed is not None or client.ended | client.reset.keys() >= set(streams)
            )
        except TimeoutError:
            pass
        print(
            json.dumps(
                {
                    "answers": [client.answers.get(stream, b"").hex() for stream in streams],
                    "ended": [stream in client.ended for stream in streams],
                    "reset": [client.reset.get(stream) for stream in streams],
                    "closed": client.closed,
                }
            )
        )


asyncio.run(main())
