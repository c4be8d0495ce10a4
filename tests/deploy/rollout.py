"""What the component `surge` builds on: two pods of one node, each with process ids of its own, on one network.

The new process waits for the addresses; meanwhile the old one answers both pods' probes, and the node's lookups. Run as a
program, this file plays it, in a network that it is started in.
"""

import json
import signal
import subprocess
import sys
import time
import urllib.request

from tools import alone, program, run, sidestep

READY = "http://127.0.0.1:9353/ready"
UPSTREAM = ("127.0.0.1", 5353)
# A client's patience with one lookup, and how many may go unanswered one after the other: a gap of a second at most, on a
# machine that has other things to do. On a quiet one it takes 30 ms.
PATIENCE, LOST = 0.2, 5


def test_the_new_process_takes_over_when_the_old_one_ends():
    told = json.loads(run(*alone(sys.executable, __file__, program("unshare"), sidestep())))
    assert told["ready"] == 200, "the new pod's probe is answered while it waits"
    assert told["waiting"], f"the new process did not wait: {told['log']}"
    assert told["ended"] == 0, "the old process ended in good order"
    assert told["lookups"] > 50 and told["lost"] <= LOST, told
    assert told["after"] > 10, f"the new process does not answer: {told['log']}"


def play(unshare: str, cache: str) -> dict:
    """Old, old and new, new."""
    import socket
    import threading

    import served

    threading.Thread(target=served.serve, args=[socket.create_server(UPSTREAM)], daemon=True).start()
    # --kill-child: what was started goes with who started it.
    command = [
        unshare, "--pid", "--fork", "--kill-child", cache, "--node-address=169.254.20.10", "--http=127.0.0.1:9353",
        "--listen=169.254.20.10:53", f"--upstream=tcp://{UPSTREAM[0]}:{UPSTREAM[1]}",
    ]
    old = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    served.wait_until("the first process is ready", lambda: urllib.request.urlopen(READY, timeout=1))
    count = {"lookups": 0, "lost": 0}
    lookups(0.5, count)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as new:
        lookups(1, count)
        ready = urllib.request.urlopen(READY, timeout=1).status
        stop(old)
        lookups(1, count)
        ended, before = old.wait(timeout=10), count["lookups"] - count["lost"]
        lookups(0.5, count)
        stop(new)
        log = new.stderr.read()
    return count | {
        "ready": ready,
        "ended": ended,
        "after": count["lookups"] - count["lost"] - before,
        "waiting": "another instance may be ending: waiting for it" in log,
        "log": log[-2000:],
    }


def lookups(seconds: float, count: dict) -> None:
    """One after the other, a millisecond apart."""
    import socket

    import served

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(PATIENCE)
            count["lookups"] += 1
            try:
                client.sendto(served.question("x.example.org"), served.CACHE)
                client.recv(4096)
            except OSError:
                count["lost"] += 1
        time.sleep(0.001)


def stop(outer: subprocess.Popen) -> None:
    """SIGTERM to the only child, which is the first process of its own namespace."""
    children = open(f"/proc/{outer.pid}/task/{outer.pid}/children").read().split()
    subprocess.run(["kill", f"-{signal.SIGTERM.value}", *children], check=True)


if __name__ == "__main__":
    print(json.dumps(play(*sys.argv[1:])))
