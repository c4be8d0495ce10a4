# What there is to run; .ci/run runs all of it.

# This machine, as rustc calls it. Named to cargo, so that the flags are not those of what runs while it builds.
target := `rustc -vV | sed -n 's/^host: //p'`
# Static, with relocations that take a bit each instead of 24 bytes: docs/performance.md, "Idle".
static := "-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs"

# The checks that need no test: format, lints, documentation, licences (`cargo deny`).
check:
    cargo fmt --check
    cargo clippy --all-targets --all-features -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --all-features
    cargo deny check licenses bans

# Needs no root and no network.
test:
    cargo test

# Against CoreDNS, unbound, dig, kdig, glibc, musl and the kernel's links; needs them, and root for network namespaces.
# Against node-cache too, as it was recorded.
test-real:
    cargo test --no-fail-fast --features real --test real --test golden --test node --test lab

# Asks node-cache, the program that SIDESTEP_NODE_CACHE names, what the golden run compares us with, and writes it into
# tests/golden/recorded; then `git diff` shows what has changed. Needs what test-real needs.
record-golden:
    SIDESTEP_RECORD=yes cargo test --features real --test golden -- --ignored

# What is done to a node, once more as nobody in particular: in a user namespace, as `unshare -Urn` makes one. Needs root,
# to become nobody, and to open /dev/net/tun to everybody (in a mount namespace, so for this run alone), as most
# machines have it.
test-userns:
    #!/usr/bin/env bash
    set -euo pipefail
    cargo test --no-run --features real --test node
    test=$(cargo test --no-run --features real --test node 2>&1 | sed -n 's/.*Executable.*(\(.*\))$/\1/p')
    here=$(mktemp -d)
    trap 'rm -r "$here"' EXIT
    chmod 755 "$here"
    cp "$test" "$here/node"
    cp "$(dirname "$test")/../sidestep" "$here"
    mkdir "$here/dev"
    export SIDESTEP_PROGRAM=$here/sidestep here
    unshare --mount bash -euc 'mount -t tmpfs tmpfs "$here/dev"
        mknod -m 666 "$here/dev/tun" c 10 200
        mount --bind "$here/dev/tun" /dev/net/tun
        exec setpriv --reuid=65534 --regid=65534 --clear-groups \
            unshare --user --map-root-user --net "$here/node" --skip needs_root::'

# The program as the image has it and as it is measured, static: target/TARGET/release/sidestep.
release:
    RUSTFLAGS="{{static}}" cargo build --release --target {{target}} --bin sidestep

# This program, its ceiling and its peers; `just bench --help` says what can be chosen.
bench *arguments:
    RUSTFLAGS="{{static}}" cargo bench --target {{target}} --bench road -- {{arguments}}

# Instructions and allocations of a hit and of a miss, beside the recorded ones; `check` fails where they are above,
# `time` says nanoseconds. Needs valgrind. With the recorded compiler, if rustup has it here.
cost *arguments:
    #!/bin/sh
    set -eu
    recorded=$(sed -n 's/^rustc = "rustc \([^ ]*\).*/\1/p' tests/cost/recorded.toml)
    if rustup run "${recorded:-none}" rustc --version >/dev/null 2>&1; then
        export RUSTUP_TOOLCHAIN=$recorded
    fi
    RUSTFLAGS="{{static}}" cargo bench --target {{target}} --bench cost -- {{arguments}}

# Writes tests/cost/recorded.toml anew, with the compiler that is in use.
cost-record:
    RUSTFLAGS="{{static}}" cargo bench --target {{target}} --bench cost -- record

# The manifests, chart, unit, rules and dashboard of deploy/; needs kustomize, helm, promtool, systemd and root.
check-deploy:
    cargo build
    python3 tests/deploy/check.py

# The container images sidestep:TAG and sidestep:TAG-iptables, by whichever builder there is.
image tag="latest":
    #!/bin/sh
    set -eu
    for builder in podman buildah docker; do
        command -v $builder >/dev/null || continue
        $builder build -f deploy/image/Containerfile --target sidestep -t sidestep:{{tag}} .
        $builder build -f deploy/image/Containerfile --target sidestep-iptables -t sidestep:{{tag}}-iptables .
        exit
    done
    echo "no builder is there: install podman, buildah or docker" >&2
    exit 1
