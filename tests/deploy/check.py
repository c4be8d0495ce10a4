#!/usr/bin/env python3
"""Checks what stands in deploy/: `just check-deploy`. Whatever cannot be checked is a failure that says what is missing.

    manifests.py   kustomize's folders: built, held against Kubernetes' schemas, against this program and what we promise
    chart.py       the Helm chart: linted, and the same objects as kustomize makes
    units.py       systemd's unit, the configuration of a host, what the program tells systemd
    monitoring.py  rules and dashboard, held against what a running program serves
"""

import sys
import time
import traceback

import chart
import manifests
import monitoring
import units


def main() -> int:
    """Runs every function called test_*, in the order written; an argument is a part of the names to run."""
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    passed, failed = 0, []
    started = time.monotonic()
    for module in (manifests, chart, units, monitoring):
        for name, test in vars(module).items():
            full = f"{module.__name__}::{name.removeprefix('test_')}"
            if not name.startswith("test_") or wanted not in full:
                continue
            try:
                test()
            except Exception:  # a test that fails is told of, and the others still run
                failed.append(full)
                print(f"test {full} ... FAILED\n{traceback.format_exc(limit=-4)}", flush=True)
            else:
                passed += 1
                print(f"test {full} ... ok", flush=True)
    result = "ok" if passed and not failed else "FAILED"
    print(f"\ntest result: {result}. {passed} passed; {len(failed)} failed; 0 ignored; "
          f"finished in {time.monotonic() - started:.1f}s")
    return 0 if result == "ok" else 1


if __name__ == "__main__":
    sys.exit(main())
