"""As many questions over QUIC as one aioquic connection gets answered: a stream each, 32 at once.

    doq.py ADDRESS CA-FILE SECONDS

Prints how many were answered, and in how many seconds.
"""

import asyncio
import struct
import sys
import time

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import StreamDataReceived

UNDER_WAY = 32


def query(number):
    name = b"\x07n%06d\x05bench\x04test\x00" % (number % 10_000)
    message = struct.pack(">6H", 0, 0x100, 1, 0, 0, 0) + name + struct.pack(">2H", 1, 1)
    return struct.pack(">H", len(message)) + message


class Client(QuicConnectionProtocol):
    asked = 0
    answered = 0
    running = True

    def quic_event_received(self, event):
        if isinstance(event, StreamDataReceived) and event.end_stream:
            self.answered += 1
            if self.running:
                self.ask()

    def ask(self):
        stream = self._quic.get_next_available_stream_id()
        self._quic.send_stream_data(stream, query(self.asked), end_stream=True)
        self.asked += 1


async def main():
    address, ca, seconds = sys.argv[1:4]
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["doq"])
    configuration.load_verify_locations(cafile=ca)
    async with connect(
        address, 853, configuration=configuration, create_protocol=Client
    ) as client:
        start = time.monotonic()
        for _ in range(UNDER_WAY):
            client.ask()
        client.transmit()
        await asyncio.sleep(float(seconds))
        client.running = False
        print(client.answered, time.monotonic() - start)


asyncio.run(main())
