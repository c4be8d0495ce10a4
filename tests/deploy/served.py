"""A node's cache with clients and a Prometheus, in a network of its own; asks Prometheus what it is told to ask.

Reads one JSON object: the program and its arguments, Prometheus' configuration folder, and paths of Prometheus' API.
Writes one: what each path answered, and the program's own /metrics.
"""

import contextlib
import itertools
import json
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from http import HTTPStatus

CACHE = ("169.254.20.10", 53)
METRICS = "http://127.0.0.1:9353/metrics"
API = "http://127.0.0.1:9090"
# Enough for a rate over five seconds.
SCRAPES = 5
NOERROR, SERVFAIL, NXDOMAIN = 0, 2, 3
A = 1


def question(name: str, rtype: int = A) -> bytes:
    """A query."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack(">6H", 4711, 0x0100, 1, 0, 0, 0) + labels + struct.pack(">BHH", 0, rtype, 1)


def answer(query: bytes) -> bytes:
    """The cluster DNS: 127.0.0.1 for every name, but for those that begin with `none` or `broken`."""
    end = query.index(0, 12) + 5
    first = query[13 : 13 + query[12]]
    code = NXDOMAIN if first.startswith(b"none") else SERVFAIL if first.startswith(b"broken") else NOERROR
    is_known = code == NOERROR and query[end - 4 : end - 2] == struct.pack(">H", A)
    head = query[:2] + struct.pack(">5H", 0x8180 | code, 1, int(is_known), 0, 0)
    record = struct.pack(">3HIH", 0xC00C, A, 1, 30, 4) + bytes([127, 0, 0, 1]) if is_known else b""
    return head + query[12:end] + record


def serve(listener: socket.socket) -> None:
    """Answers over TCP, for ever."""

    def talk(stream: socket.socket) -> None:
        reader = stream.makefile("rb")
        while length := reader.read(2):
            reply = answer(reader.read(int.from_bytes(length)))
            stream.sendall(len(reply).to_bytes(2) + reply)

    while True:
        threading.Thread(target=talk, args=[listener.accept()[0]], daemon=True).start()


def ask(name: str) -> None:
    """One lookup over UDP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.sendto(question(name), CACHE)
        client.recv(4096)


def ask_over_tcp(name: str) -> None:
    """One over TCP."""
    with socket.create_connection(CACHE, timeout=5) as client:
        query = question(name)
        client.sendall(len(query).to_bytes(2) + query)
        client.recv(4096)


def get(url: str) -> str:
    """A page."""
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read().decode()


def clients(turn: int) -> None:
    """Hits, misses, names that do not exist, failures, over UDP and TCP; takes half a second."""
    for name in ("first.cluster.local", f"turn{turn}.example.org", f"none{turn}.cluster.local", f"broken{turn}.example.org"):
        ask(name)
    ask_over_tcp("first.cluster.local")
    time.sleep(0.5)


def scrapes() -> int:
    """How often Prometheus has scraped us."""
    found = json.loads(get(f"{API}/api/v1/query?query=count_over_time(up[1m])"))["data"]["result"]
    return int(found[0]["value"][1]) if found else 0


def wait_until(what: str, done, seconds: float = 15) -> None:
    """Waits, and not for ever."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if done():
                return
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.1)


@contextlib.contextmanager
def running(*command: str):
    """A program, until the end of the block."""
    process = subprocess.Popen(command, stdout=sys.stderr)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=15)


def main() -> None:
    wanted = json.load(sys.stdin)
    threading.Thread(target=serve, args=[socket.create_server(("127.0.0.1", 53))], daemon=True).start()
    folder = wanted["folder"]
    prometheus = (
        wanted["prometheus"], f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
        "--web.listen-address=127.0.0.1:9090", "--log.level=warn",
    )
    with running(*wanted["program"]), running(*prometheus):
        wait_until("the cache answers", lambda: ask("first.cluster.local") or True)
        wait_until("the service is known", lambda: "service_addresses{zone=\"cluster.local.\"} 1" in get(METRICS))
        wait_until("Prometheus answers", lambda: get(f"{API}/-/ready"))
        # Prometheus takes some seconds to find whom to scrape; rates take several scrapes, with clients between them.
        turns = itertools.count()
        wait_until("Prometheus has scraped", lambda: clients(next(turns)) or scrapes() >= SCRAPES, 30)
        wait_until("rules are worked out", lambda: all(
            rule["lastEvaluation"][:4] != "0001"
            for group in json.loads(get(f"{API}/api/v1/rules"))["data"]["groups"] for rule in group["rules"]
        ))
        answers = {}
        for path in wanted["paths"]:
            try:
                answers[path] = json.loads(get(API + path))
            except urllib.error.HTTPError as error:
                answers[path] = {"status": str(HTTPStatus(error.code)), "error": error.read().decode()}
        json.dump({"answers": answers, "metrics": get(METRICS)}, sys.stdout)


if __name__ == "__main__":
    main()
