"""One request over HTTP/3, by aioquic: prints the status and the content in hexadecimal.

    h3.py ADDRESS PORT CA-FILE METHOD PATH CONTENT-IN-HEX
"""

import asyncio
import sys

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration


class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.headers = {}
        self.content = b""
        self.done = asyncio.get_running_loop().create_future()

    def quic_event_received(self, event):
        for seen in self.http.handle_event(event):
            if isinstance(seen, HeadersReceived):
                self.headers.update(seen.headers)
            elif isinstance(seen, DataReceived):
                self.content += seen.data
            if getattr(seen, "stream_ended", False) and not self.done.done():
                self.done.set_result(None)

    async def ask(self, authority, method, path, content):
        stream = self._quic.get_next_available_stream_id()
        headers = [
            (b":method", method.encode()),
            (b":scheme", b"https"),
            (b":authority", authority.encode()),
            (b":path", path.encode()),
            (b"content-type", b"application/dns-message"),
        ]
        self.http.send_headers(stream, headers, end_stream=not content)
        if content:
            self.http.send_data(stream, content, end_stream=True)
        self.transmit()
        await asyncio.wait_for(self.done, 5)
        return self.headers[b":status"].decode(), self.content


async def main(address, port, ca, method, path, content):
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN)
    configuration.load_verify_locations(ca)
    configuration.server_name = "one.test"
    async with connect(
        address, int(port), configuration=configuration, create_protocol=Client
    ) as client:
        status, got = await client.ask(address, method, path, bytes.fromhex(content))
        print(status, got.hex())


asyncio.run(main(*sys.argv[1:]))
