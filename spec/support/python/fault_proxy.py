"""Stands between a client and a server, hands on what both say, and at one byte of it does what is asked for.

    fault_proxy.py DIR

Listens on a free port of 127.0.0.1, written to DIR/port, for control connections. Its first line to each is

    PORT PATH                       where its clients may connect to: TCP, and a Unix socket

Then each line that it reads makes it accept one client:

    KIND SIDE N unix|tcp TARGET     TARGET: a port, or the path of a Unix socket, of the server

It connects to the server and answers "ok". After N bytes that SIDE (client or server) has sent, which the other one gets
all, KIND happens: reset (to both), close (both), half (the receiver reads the end, the other direction goes on), silent
(nothing comes any more, until both have gone), garbage (bytes that nobody sent, then the end).
"""
import os
import select
import socket
import struct
import sys
import threading

folder = sys.argv[1]
GARBAGE = bytes((i * 37 + 11) % 256 for i in range(64))


def die(sock):
    """Closes with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def finish(sock):
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def last_words(kind, source, target):
    """What happens at the byte in question; False: the connection is over."""
    if kind == "reset":
        die(source)
        die(target)
        return False
    if kind == "close":
        source.close()
        target.close()
        return False
    if kind == "garbage":
        target.sendall(GARBAGE)
        finish(target)
    elif kind == "half":
        finish(target)
    return True


def wait_for_end(socks):
    """Nothing is handed on any more, until both have ended."""
    for sock in socks:
        poll = select.poll()
        poll.register(sock, select.POLLRDHUP)
        poll.poll(60000)


def pump(kind, side, n, client, server):
    ends = {client: server, server: client}
    source = client if side == "client" else server
    silent = set()
    left = n
    while True:
        if left == 0:
            left = -1
            silent.add(source)
            if not last_words(kind, source, ends[source]):
                return
            if kind == "silent":
                return wait_for_end([client, server])
        ready, _, _ = select.select(list(ends), [], [])
        for sock in ready:
            data = sock.recv(65536)
            if sock is source and left >= 0:
                data = data[:left]
                left -= len(data)
            if not data:
                if sock is source and left == 0:
                    break
                finish(ends[sock])
                silent.discard(sock)
                del ends[sock]
                if not ends:
                    return
            elif sock not in silent:
                (server if sock is client else client).sendall(data)


def handle(kind, side, n, client, server):
    try:
        pump(kind, side, n, client, server)
    except (OSError, KeyError):
        pass
    finally:
        client.close()
        server.close()


def session(control, number):
    tcp = socket.create_server(("127.0.0.1", 0), backlog=64)
    path = os.path.join(folder, "data%d" % number)
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(path)
    unix.listen(64)
    lines = control.makefile("rw", newline="\n")
    lines.write("%d %s\n" % (tcp.getsockname()[1], path))
    lines.flush()
    for line in lines:
        kind, side, n, family, target = line.split()
        client = (unix if family == "unix" else tcp).accept()[0]
        if target.isdigit():
            server = socket.create_connection(("127.0.0.1", int(target)))
        else:
            server = socket.socket(socket.AF_UNIX)
            server.connect(target)
        for sock in (client, server):
            if sock.family == socket.AF_INET:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        lines.write("ok\n")
        lines.flush()
        threading.Thread(target=handle, args=(kind, side, int(n), client, server), daemon=True).start()


def main():
    listener = socket.create_server(("127.0.0.1", 0))
    with open(os.path.join(folder, "port"), "w") as f:
        f.write("%d\n" % listener.getsockname()[1])
    number = 0
    while True:
        number += 1
        threading.Thread(target=session, args=(listener.accept()[0], number), daemon=True).start()


main()
