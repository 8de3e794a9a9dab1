"""Servers of python's own library for our clients.

    servers.py DIR KIND [CERTIFICATE KEY]

Listens on a free port of 127.0.0.1, which is written to DIR/port, and on the Unix socket DIR/socket where KIND can.

asyncio       streams; reads commands, one a line: see COMMANDS
socketserver  a thread for each connection, gives each line back in capitals
http          http.server with connections that stay: GET /N gives N bytes, POST gives the body back
reset         reads "N\\n", sends N bytes and resets the connection
tls           asyncio's streams with that certificate
"""
import asyncio
import hashlib
import http.server
import os
import selectors
import socket
import socketserver
import ssl
import struct
import sys

folder, kind = sys.argv[1], sys.argv[2]


def listening(port):
    name = os.path.join(folder, "port")
    with open(name + ".new", "w") as f:
        f.write("%d\n" % port)
    os.rename(name + ".new", name)


async def echo(reader, writer, text):
    writer.write(text + b"\n")


async def send_bytes(reader, writer, text):
    left = int(text)
    while left > 0:
        n = min(left, 65536)
        writer.write(b"x" * n)
        await writer.drain()
        left -= n


async def digest(reader, writer, text):
    h = hashlib.sha256(await reader.readexactly(int(text)))
    writer.write(h.hexdigest().encode() + b"\n")


async def half(reader, writer, text):
    """Says no more, and counts what it still hears, in a file."""
    if writer.can_write_eof():
        writer.write_eof()
    rest = await reader.read()
    with open(os.path.join(folder, "rest"), "w") as f:
        f.write("%d\n" % len(rest))


async def slowly(reader, writer, text):
    """Reads so many bytes, few at a time."""
    left = int(text)
    while left > 0:
        left -= len(await reader.read(min(left, 20000)))
        await asyncio.sleep(0.0005)
    writer.write(b"read\n")


async def abort(reader, writer, text):
    writer.transport.abort()


COMMANDS = {b"echo": echo, b"bytes": send_bytes, b"digest": digest, b"half": half, b"slowly": slowly, b"abort": abort}


async def handle(reader, writer):
    try:
        async for line in reader:
            word, _, rest = line.rstrip(b"\n").partition(b" ")
            await COMMANDS[word](reader, writer, rest)
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
        pass
    finally:
        writer.close()


async def run_asyncio(context=None):
    server = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=256, ssl=context)
    unix = None
    if not context:
        unix = await asyncio.start_unix_server(handle, os.path.join(folder, "socket"))
    listening(server.sockets[0].getsockname()[1])
    await server.serve_forever()
    del unix


class Capitals(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line.upper())


class Threads(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 256


class Pages(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(b"x" * int(self.path[1:]))

    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))


def run_server(server):
    listening(server.server_address[1])
    server.serve_forever()


def run_reset():
    selector = selectors.DefaultSelector()
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    selector.register(listener, selectors.EVENT_READ)
    listening(listener.getsockname()[1])
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                selector.register(listener.accept()[0], selectors.EVENT_READ)
                continue
            sock = key.fileobj
            selector.unregister(sock)
            sock.sendall(b"x" * int(sock.recv(100)))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()


def tls_context():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(sys.argv[3], sys.argv[4])
    context.set_alpn_protocols(["h2", "lun/1"])
    return context


if kind == "asyncio":
    asyncio.run(run_asyncio())
elif kind == "tls":
    asyncio.run(run_asyncio(tls_context()))
elif kind == "socketserver":
    run_server(Threads(("127.0.0.1", 0), Capitals))
elif kind == "http":
    run_server(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages))
elif kind == "reset":
    run_reset()
