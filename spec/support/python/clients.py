"""Clients of python's own library for our servers.

    clients.py KIND PORT ARGUMENTS...

Prints what it has seen; a failure is an exception, and an exit status that is not 0.
"""
import asyncio
import hmac
import http.client
import smtplib
import socket
import ssl
import struct
import sys
import time

kind, port, rest = sys.argv[1], int(sys.argv[2]), sys.argv[3:]


def connect():
    return socket.create_connection(("127.0.0.1", port), timeout=20)


async def talk(number, context):
    """Echo, in pieces of all sizes, more than one on the way."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, limit=2**20)
    for i in range(20):
        text = b"%d:" % number + b"x" * (i * i * 50)
        writer.write(text + b"\n")
        if i % 3 == 0:
            await writer.drain()
    for i in range(20):
        line = await reader.readuntil(b"\n")
        assert line == b"%d:" % number + b"x" * (i * i * 50) + b"\n", line[:50]
    if writer.can_write_eof():
        writer.write_eof()
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def run_asyncio(clients, context=None):
    await asyncio.gather(*(talk(i, context) for i in range(clients)))
    print(clients, "clients")


def run_smtp():
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
        client.sendmail("a@example.org", ["b@example.org", "c@example.org"],
                        "Subject: dots\n\n.one\n..two\nthree\n" + "long line " * 90 + "\n")
        try:
            client.sendmail("a@example.org", ["nobody@example.org"], "text")
        except smtplib.SMTPRecipientsRefused as e:
            print("refused", e.recipients["nobody@example.org"])
    print("sent")


def run_http():
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    for i in range(10):
        client.request("POST", "/echo", body=b"y" * i * 1000)
        assert client.getresponse().read() == b"y" * i * 1000
    client.request("POST", "/echo", body=iter([b"one ", b"two ", b"three"]), encode_chunked=True,
                   headers={"Transfer-Encoding": "chunked"})
    print(client.getresponse().read().decode())


def run_reset(n):
    """Sends n bytes and resets, in the middle of an answer if there is one."""
    sock = connect()
    sock.sendall(b"x" * n)
    time.sleep(0.01)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def run_slow(n):
    """Reads n bytes through the smallest of buffers."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    sock.connect(("127.0.0.1", port))
    got = 0
    while got < n:
        data = sock.recv(20001)
        assert data, got
        got += len(data)
        if got % 7 == 0:
            time.sleep(0.0005)
    assert sock.recv(1) == b""
    print(got)


def run_urgent():
    sock = connect()
    sock.sendall(b"hello ")
    sock.send(b"!", socket.MSG_OOB)
    sock.sendall(b"world\n")
    sock.shutdown(socket.SHUT_WR)
    print(sock.makefile().read())


def run_deaf():
    """Says that it will hear no more, and what it is told is lost, and still speaks."""
    sock = connect()
    sock.shutdown(socket.SHUT_RD)
    sock.sendall(b"still here\n")
    time.sleep(0.05)
    sock.sendall(b"and now gone\n")


def tls_context():
    return ssl.create_default_context(cafile=rest[1])


def run_unwrap(context):
    """Blocking TLS, that ends as it should: each side says so."""
    with connect() as plain, context.wrap_socket(plain, server_hostname="localhost") as sock:
        for size in (1, 1000, 100000):
            sock.sendall(b"x" * size + b"\n")
            heard = b""
            while not heard.endswith(b"\n"):
                heard += sock.recv(65536)
            assert len(heard) == size + 1
        sock.unwrap()
    print("unwrapped")


def run_renegotiate(context, keys):
    """Asks for another handshake again and again and reads no answer: TLS 1.2, with a cipher that hides nothing."""
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-NULL-SHA:@SECLEVEL=0")
    context.keylog_filename = keys
    coming, going, hello = ssl.MemoryBIO(), ssl.MemoryBIO(), None
    talk = context.wrap_bio(coming, going, server_hostname="localhost")
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port))
    while True:
        try:
            talk.do_handshake()
            break
        except ssl.SSLWantReadError:
            sock.sendall(going.read())
            heard = sock.recv(65536)
            hello = hello or heard
            coming.write(heard)
    sock.sendall(going.read())
    with open(keys) as f:
        mine, master = (bytes.fromhex(word) for word in f.read().split("CLIENT_RANDOM ")[1].split()[:2])
    seed, block = b"key expansion" + hello[11:43] + mine, b""
    a = seed
    while len(block) < 20:
        a = hmac.digest(master, a, "sha256")
        block += hmac.digest(master, a + seed, "sha256")

    def sealed(n):
        text = b"\x01\0\0\0"  # a ClientHello; the number of the first record was 0
        mac = hmac.digest(block[:20], struct.pack(">QBHH", n, 22, 0x303, len(text)) + text, "sha1")
        return struct.pack(">BHH", 22, 0x303, len(text) + len(mac)) + text + mac

    for n in range(1, 2000000, 1000):
        try:
            sock.sendall(b"".join(map(sealed, range(n, n + 1000))))
        except OSError:
            print("given up")
            return


if kind == "asyncio":
    asyncio.run(run_asyncio(int(rest[0])))
elif kind == "tls":
    asyncio.run(run_asyncio(int(rest[0]), tls_context()))
elif kind == "unwrap":
    run_unwrap(tls_context())
elif kind == "renegotiate":
    run_renegotiate(tls_context(), rest[2])
elif kind in ("reset", "slow"):
    globals()["run_" + kind](int(rest[0]))
else:
    globals()["run_" + kind]()
