# The image of LoadX: one static binary and the system's list of certificate authorities; no shell, no libraries, no root.
#
# Without access to a registry, docker/toolchain-image.sh makes a build image from the toolchain of the
# machine: docker build --build-arg BUILD_IMAGE=loadx-toolchain .
ARG BUILD_IMAGE=rust:1-bookworm
FROM ${BUILD_IMAGE} AS build
# CI finds the images of its builds by this label.
LABEL loadx=build
WORKDIR /src
# Relative relocations take a twentieth of the space in their packed form. The linker strips symbols: Cargo ignores the key
# "strip" of a profile for a package with settings of its own.
ENV RUSTFLAGS="-C target-feature=+crt-static -C strip=symbols -C link-arg=-Wl,-z,pack-relative-relocs" \
    CARGO_TERM_COLOR=never

# Builds the dependencies first, with empty crates instead of those of LoadX, so that a change of the source
# does not build the dependencies again.
COPY Cargo.toml Cargo.lock ./
COPY crates/loadx/Cargo.toml crates/loadx/
COPY crates/loadx-certs/Cargo.toml crates/loadx-certs/
COPY crates/loadx-core/Cargo.toml crates/loadx-core/
COPY crates/loadx-http/Cargo.toml crates/loadx-http/
COPY crates/loadx-load/Cargo.toml crates/loadx-load/
COPY crates/loadx-proxy/Cargo.toml crates/loadx-proxy/
COPY crates/loadx-sim/Cargo.toml crates/loadx-sim/
COPY crates/xtask/Cargo.toml crates/xtask/
RUN for crate in certs core http load proxy sim; do mkdir crates/loadx-$crate/src && touch crates/loadx-$crate/src/lib.rs; done \
 && mkdir -p crates/xtask/src && echo 'fn main() {}' >crates/xtask/src/main.rs \
 && mkdir -p crates/loadx/src crates/loadx/tests/e2e crates/loadx/tests/containers \
 && echo 'fn main() {}' >crates/loadx/src/main.rs \
 && touch crates/loadx/tests/e2e/main.rs crates/loadx/tests/containers/main.rs \
 # A separate target keeps static linking away from build scripts and macros.
 && cargo build --release --locked --target "$(rustc -vV | sed -n 's/^host: //p')" \
 && rm -rf crates/*/src

COPY crates crates
# Makes the sources newer than the build of the empty crates, for any times in the checkout.
RUN find crates -name '*.rs' -exec touch {} + \
 && target=$(rustc -vV | sed -n 's/^host: //p') \
 && cargo build --release --locked --target "$target" \
 && mkdir -p /out/etc/ssl/certs && cp "target/$target/release/loadx" /out/loadx \
 # The authorities that LoadX trusts on connections to backends and to authorities for certificates.
 && cp /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/

FROM scratch
COPY --from=build /out/ /
# An unprivileged user id; the image has no list of users.
USER 65534:65534
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=2s CMD ["/loadx", "health"]
ENTRYPOINT ["/loadx"]
CMD ["run", "--config", "/etc/loadx/config.json"]
