"""A DNS server for one zone, which answers badly where it is asked to.

    dns_server.py DIR

UDP and TCP on one free port of 127.0.0.1, written to DIR/port. Every name has the address 192.0.2.7, and the first label
says what happens, over UDP:

    ok        an answer
    big       truncated: the answer, 50 addresses, is for TCP
    lost2     the first two questions get no answer
    slow      an answer after 50 ms
    wrong     first an answer with another id, then one to another question, then the right one
    twice     the answer, two times
    garbage   bytes that are no DNS, then the answer
    never     no answer; TCP answers
    mute      no answer, over TCP neither
    none      no such name
"""
import os
import socket
import struct
import sys
import threading
import time

folder = sys.argv[1]
asked = {}


def parse(query):
    """-> id, the labels, the question's bytes"""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode())
        at += 1 + query[at]
    return struct.unpack(">H", query[:2])[0], labels, query[12:at + 5]


def answer(number, question, addresses, flags=0x8180):
    head = struct.pack(">HHHHHH", number, flags, 1, len(addresses), 0, 0)
    body = b"".join(struct.pack(">HHHIH", 0xC00C, 1, 1, 60, 4) + bytes(map(int, a.split("."))) for a in addresses)
    return head + question + body


def udp_answers(query):
    """What is sent back, with a pause where there is None."""
    number, labels, question = parse(query)
    kind, good = labels[0], answer(number, question, ["192.0.2.7"])
    asked[kind] = asked.get(kind, 0) + 1
    if kind == "big":
        return [answer(number, question, [], 0x8380)]
    if kind == "lost2" and asked[kind] < 3 or kind in ("never", "mute"):
        return []
    if kind == "slow":
        return [None, good]
    if kind == "wrong":
        other = b"\5other" + question[question.index(b"\0"):]
        return [answer(number ^ 1, question, ["192.0.2.66"]), answer(number, other, ["192.0.2.66"]), good]
    if kind == "twice":
        return [good, good]
    if kind == "garbage":
        return [b"", b"\xff" * 300, good]
    if kind == "none":
        return [answer(number, question, [], 0x8183)]
    return [good]


def serve_udp(sock):
    while True:
        query, address = sock.recvfrom(4096)
        for data in udp_answers(query):
            if data is None:
                time.sleep(0.05)
            else:
                sock.sendto(data, address)


def serve_tcp(listener):
    while True:
        sock, _ = listener.accept()
        with sock, sock.makefile("rb") as stream:
            head = stream.read(2)
            if len(head) < 2:
                continue
            number, labels, question = parse(stream.read(struct.unpack(">H", head)[0]))
            if labels[0] == "mute":
                stream.read()
                continue
            data = answer(number, question, ["192.0.2.%d" % (i + 1) for i in range(50)])
            for i in range(0, len(data) + 2, 7):  # in small pieces
                sock.sendall((struct.pack(">H", len(data)) + data)[i:i + 7])


while True:
    listener = socket.create_server(("127.0.0.1", 0))
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.bind(listener.getsockname())
        break
    except OSError:
        continue
threading.Thread(target=serve_tcp, args=(listener,), daemon=True).start()
with open(os.path.join(folder, "port"), "w") as f:
    f.write("%d\n" % sock.getsockname()[1])
serve_udp(sock)
