"""Starts a command as systemd does a service of Type=notify, stops it after some watchdog's time, prints what it told."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        os.chmod(folder, 0o777)
        path = os.path.join(folder, "notify")
        manager.bind(path)
        os.chmod(path, 0o777)
        manager.settimeout(10)
        environment = os.environ | {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "3000000"}
        service = subprocess.Popen(sys.argv[1:], env=environment)
        try:
            end = None
            while True:
                said = manager.recv(256).decode()
                print(said, flush=True)
                if said == "READY=1":
                    end = time.monotonic() + 2
                if said == "STOPPING=1":
                    return service.wait(timeout=15)
                if end and time.monotonic() > end:
                    end = None
                    service.send_signal(signal.SIGTERM)
        finally:
            service.kill()


if __name__ == "__main__":
    sys.exit(main())
