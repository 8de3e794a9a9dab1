"""A server that does what a well-behaved one does not: it never answers, cuts bodies short, sends endless heads.

    odd_server.py DIR

Listens on a free port of 127.0.0.1 and writes the port to DIR/port. DIR/waiting appears when a client waits for
an answer that will never come; DIR/peak holds the largest number of connections that were open at the same time.
"""
import asyncio
import os
import sys

folder = sys.argv[1]
open_now = 0
peak = 0


def note(name, text):
    """Writes the file in one piece: who sees it sees all of it."""
    path = os.path.join(folder, name)
    with open(path + ".new", "w") as f:
        f.write(text)
    os.rename(path + ".new", path)


def answer(body, *headers):
    head = ["HTTP/1.1 200 OK", *headers, "", ""]
    return "\r\n".join(head).encode() + body


def chunked(*chunks):
    return b"".join(b"%x;note=yes\r\n%s\r\n" % (len(c), c) for c in chunks)


ANSWERS = {
    "/slow": answer(b"slow", "Content-Length: 4"),
    "/cut": answer(b"0123456789", "Content-Length: 1000"),
    "/cut-head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "/cut-chunk": answer(b"400\r\n0123456789", "Transfer-Encoding: chunked"),
    "/no-last-chunk": answer(chunked(b"0123456789"), "Transfer-Encoding: chunked"),
    "/bad-chunk": answer(b"ten\r\n0123456789\r\n", "Transfer-Encoding: chunked"),
    "/trailers": answer(chunked(b"a" * 1000, b"b" * 30) + b"0\r\nX-Sum: 1\r\n\r\n", "Transfer-Encoding: chunked"),
    "/until-close": answer(b"x" * 12345),
    "/empty": b"HTTP/1.1 204 No Content\r\n\r\n",
    "/early-hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + answer(b"hello", "Content-Length: 5"),
    "/two-lengths": answer(b"hello", "Content-Length: 5", "Content-Length: 6"),
    "/many-headers": answer(b"", *["X-%d: y" % i for i in range(1000)]),
    "/long-header": answer(b"", "X: " + "y" * 200000),
    "/not-http": b"220 mail.example ESMTP ready\r\n",
    "/nothing": b"",
    "/bare-503": b"HTTP/1.0 503\r\nContent-Length: 0\r\n\r\n",
}


async def serve(reader, writer):
    global open_now, peak
    open_now += 1
    if open_now > peak:
        peak = open_now
        note("peak", str(peak))
    counted = True
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ")[1].decode()
        if path == "/never":
            note("waiting", "yes")
            await reader.read()
        else:
            if path == "/slow":
                await asyncio.sleep(0.05)
            # Before the answer: who has it may open the next connection before we come to close this one.
            open_now -= 1
            counted = False
            writer.write(ANSWERS[path])
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        if counted:
            open_now -= 1
        writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=256)
    note("port", str(server.sockets[0].getsockname()[1]))
    await server.serve_forever()


asyncio.run(main())
