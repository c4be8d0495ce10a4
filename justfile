# What there is to run; .ci/run runs all of it.

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
test-real:
    cargo test --no-fail-fast --features real --test real --test node --test lab

# This program, its ceiling and its peers; `just bench --help` says what can be chosen.
bench *arguments:
    cargo bench --bench road -- {{arguments}}
